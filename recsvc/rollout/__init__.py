"""The rollout of a new model: noticed, prepared, checked, activated, listed."""
