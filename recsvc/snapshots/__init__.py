"""Snapshots of the live state in the model store: a new machine begins with one."""
