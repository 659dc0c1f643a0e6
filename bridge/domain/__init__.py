"""Values that every part speaks of; they import nothing of the bridge."""
