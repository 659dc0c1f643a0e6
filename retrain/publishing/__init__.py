"""Publication of models: publish, activate, prune."""
