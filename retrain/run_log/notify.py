"""Opens the log of runs that the settings name, and tells Datadog and Snowflake of a run that has ended."""

from datetime import UTC, datetime

import structlog

from retrain.errors import RunError
from retrain.run_log.metrics import send
from retrain.run_log.row import RunRow
from retrain.run_log.snowflake import log_runs
from retrain.run_log.store import FileRuns, PostgresRuns, Runs
from retrain.settings import RetrainSettings
from servicekit.telemetry.metrics import Metric, Metrics

logger = structlog.get_logger("retrain")


def open_runs(settings: RetrainSettings) -> Runs:
    """Return the log of runs: in Postgres where there is one, else in files."""
    conninfo = settings.conninfo()
    return PostgresRuns(conninfo) if conninfo else FileRuns(settings.retrain_work_dir / "runs")


def tell(settings: RetrainSettings, runs: Runs, metrics: Metrics, row: RunRow) -> None:
    """Tell Datadog and Snowflake of a run that has ended; nothing fails for it."""
    send(metrics, row)
    account = settings.snowflake()
    if account is None:
        return
    try:
        logged = log_runs(account, runs, lambda: datetime.now(UTC))
    except (RunError, OSError) as failure:
        logger.warning("snowflake.not_told", problem=str(failure))
        logged = False
    metrics.gauge(Metric.RETRAIN_LOGGED, float(logged))
