"""What the programs share: settings, errors, server life cycle, credentials, telemetry, ports and object storage."""
