"""Gates that a run must pass: data, quality, half day, smoke test."""
