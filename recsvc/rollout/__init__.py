"""A new model: noticed, prepared, checked, activated, listed."""
