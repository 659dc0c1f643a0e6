"""Values that all parts of the bridge share; they import nothing of the bridge."""
