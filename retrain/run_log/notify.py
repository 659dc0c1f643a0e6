"""Opens the log of runs that the settings name, and reports an ended run to Datadog and Snowflake."""

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
    """Return the log of runs: in Postgres if that is configured, else in files."""
    conninfo = settings.conninfo()
    return PostgresRuns(conninfo) if conninfo else FileRuns(settings.retrain_work_dir / "runs")


def tell(settings: RetrainSettings, runs: Runs, metrics: Metrics, row: RunRow) -> None:
    """Report an ended run to Datadog and Snowflake; a failure is logged only."""
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
