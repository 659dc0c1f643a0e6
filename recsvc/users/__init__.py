"""The users of a model, with their interactions since training."""
