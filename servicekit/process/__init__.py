"""Processes: termination, ports, death with the parent."""
