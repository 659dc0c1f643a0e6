"""Files that several processes share: locks, and replacement as a whole."""
