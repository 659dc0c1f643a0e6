"""Reports each change of the circuit breaker to logs and Datadog."""

from collections.abc import Callable

import structlog

from bridge.recsvc_client.circuit_breaker import BreakerState, StateListener
from servicekit.telemetry.metrics import Metric, Metrics

logger = structlog.get_logger(__name__)


def report_breaker(metrics: Metrics, tell_health: Callable[[bool], None] = lambda _: None) -> StateListener:
    """Return a listener that makes each change one log line, one gauge and one event.

    Args:
        metrics: Where gauge and event go.
        tell_health: Told whether calls pass.
    """

    def changed(before: BreakerState, after: BreakerState) -> None:
        states = {"before": before.name.lower(), "after": after.name.lower()}
        log = logger.warning if after is BreakerState.OPEN else logger.info
        log("breaker.changed", **states)
        tell_health(after is not BreakerState.OPEN)
        metrics.gauge(Metric.BREAKER_STATE, after.value)
        metrics.event(
            f"LightFM circuit breaker {states['after']}",
            f"feed.recommendation.fallback: the breaker went from {states['before']} to {states['after']}",
            tags=[f"state:{states['after']}"],
        )

    return changed
