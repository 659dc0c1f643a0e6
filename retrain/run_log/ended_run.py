"""Reports a run that has ended to Datadog and Snowflake."""

from datetime import UTC, datetime

import structlog

from retrain.errors import RunError
from retrain.run_log.row import RunRow, State
from retrain.run_log.snowflake import log_runs
from retrain.run_log.store import Runs
from retrain.settings import RetrainSettings
from servicekit.telemetry.metrics import Metric, Metrics

logger = structlog.get_logger("retrain")


def report_ended_run(settings: RetrainSettings, runs: Runs, metrics: Metrics, row: RunRow) -> None:
    """Report an ended run to Datadog and Snowflake; a failure is logged only."""
    _send(metrics, row)
    account = settings.snowflake()
    if account is None:
        return
    try:
        logged = log_runs(account, runs, lambda: datetime.now(UTC))
    except (RunError, OSError) as failure:
        logger.warning("snowflake.not_told", problem=str(failure))
        logged = False
    metrics.gauge(Metric.RETRAIN_LOGGED, float(logged))


def _send(metrics: Metrics, row: RunRow) -> None:
    if row.state is State.SUCCEEDED:
        metrics.count(Metric.RETRAIN_SUCCESS)
    else:
        metrics.count(Metric.RETRAIN_FAILURE, tags=[f"reason:{row.reason}"])
    if row.ended_at:
        metrics.gauge(
            Metric.RETRAIN_SECONDS, (row.ended_at - row.started_at).total_seconds(), tags=[f"state:{row.state}"]
        )
    if row.interactions is not None:
        metrics.gauge(Metric.RETRAIN_INTERACTIONS, row.interactions)
    for stage, seconds in row.stage_seconds.items():
        metrics.gauge(Metric.RETRAIN_STAGE_SECONDS, seconds, tags=[f"stage:{stage}"])
    for figure, value in row.quality.items():
        metrics.gauge(Metric.RETRAIN_QUALITY, value, tags=[f"figure:{figure}"])
