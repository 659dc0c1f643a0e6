"""The log of runs: Postgres or files, Datadog, Snowflake."""
