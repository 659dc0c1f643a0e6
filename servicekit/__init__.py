"""What the programs share: settings, errors, server life cycle, credentials, telemetry and object storage."""
