"""Writes the analysts' log of runs, `feed.lightfm_retrain_log` in Snowflake: one row a run, however many retries."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from retrain.run_log.row import RunRow
from retrain.run_log.store import Runs
from retrain.snowflake_account import SnowflakeAccount, SnowflakeError

logger = structlog.get_logger("retrain")

JOB: Final = "lightfm-retrain"
MAX_ERROR: Final = 1000
"""Characters of a message that are kept."""

# The schema has no identifier of a run: job and time of the start, to the microsecond, stand for one.
MERGE: Final = """
MERGE INTO feed.lightfm_retrain_log AS log
USING (
    SELECT
        %(job)s AS job_name, %(status)s AS status, %(started)s::TIMESTAMP_NTZ AS started,
        %(interactions)s::INTEGER AS interactions, %(error)s::VARCHAR AS error
) AS run
ON log.job_name = run.job_name AND log.timestamp = run.started
WHEN MATCHED THEN UPDATE SET
    status = run.status, interactions_processed = run.interactions, error_message = run.error
WHEN NOT MATCHED THEN INSERT (job_name, status, timestamp, interactions_processed, error_message)
    VALUES (run.job_name, run.status, run.started, run.interactions, run.error)
"""


def log_runs(account: SnowflakeAccount, runs: Runs, now: Callable[[], datetime]) -> bool:
    """Write each ended run that Snowflake lacks; return whether it has all of them now.

    A run never fails for it: what could not be written is written after a later run.
    """
    rows = runs.unlogged()
    try:
        if rows:
            with account.cursor() as cursor:
                for row in rows:
                    cursor.execute(MERGE, _values(row))
    except SnowflakeError as error:
        logger.warning("snowflake.unreachable", problem=str(error), waiting=len(rows))
        return False
    for row in rows:
        runs.save(row.logged(now()))
    return True


def _values(row: RunRow) -> dict[str, Any]:
    error = ": ".join(part for part in (row.reason, row.message) if part)
    return {
        "job": JOB,
        "status": str(row.state),
        "started": row.started_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
        "interactions": row.interactions,
        "error": error[:MAX_ERROR] or None,
    }
