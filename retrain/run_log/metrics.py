"""Sends the metrics of a run to Datadog."""

from retrain.run_log.row import RunRow, State
from servicekit.telemetry.metrics import Metric, Metrics


def send(metrics: Metrics, row: RunRow) -> None:
    """Send the metrics of a run that has ended."""
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
