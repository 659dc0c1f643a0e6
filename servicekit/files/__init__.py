"""Files that several processes share: locks, and atomic replacement."""
