"""Parts that the programs share: settings, errors, server life cycle, credentials, telemetry, ports, object storage."""
