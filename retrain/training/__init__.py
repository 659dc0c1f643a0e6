"""LightFM, its compiled passes, checkpoints, warm start."""
