"""Metrics reach an agent's UDP socket in DogStatsD's format, and never disturb the program."""

from servicekit.telemetry import Metric, NoMetrics, connect_metrics
from tests.support.dogstatsd import DogStatsdServer
from tests.support.polling import wait_for


def test_metrics_arrive_with_name_type_and_tags(dogstatsd: DogStatsdServer) -> None:
    metrics = connect_metrics(dogstatsd.host, dogstatsd.port, service="bridge")
    metrics.count(Metric.FALLBACK, tags=["reason:deadline_exceeded"])
    metrics.gauge(Metric.OUTBOX_DEPTH, 3)
    metrics.distribution(Metric.LATENCY, 12.5, tags=["served_by:lightfm"])
    metrics.close()
    (fallback,) = dogstatsd.wait("feed.recommendation.fallback", "reason:deadline_exceeded", "service:bridge")
    assert (fallback.kind, fallback.values) == ("c", (1.0,))
    (depth,) = dogstatsd.wait("feed.interactions.outbox_depth")
    assert (depth.kind, depth.values) == ("g", (3.0,))
    (latency,) = dogstatsd.wait("feed.recommendation.latency", "served_by:lightfm")
    assert (latency.kind, latency.values) == ("d", (12.5,))


def test_metrics_arrive_without_being_flushed(dogstatsd: DogStatsdServer) -> None:
    metrics = connect_metrics(dogstatsd.host, dogstatsd.port, service="bridge")
    metrics.count(Metric.FALLBACK)
    assert dogstatsd.wait("feed.recommendation.fallback", timeout_s=5)
    metrics.close()


def test_events_arrive(dogstatsd: DogStatsdServer) -> None:
    metrics = connect_metrics(dogstatsd.host, dogstatsd.port, service="bridge")
    metrics.event("breaker opened", "LightFM does not answer", tags=["state:open"])
    metrics.close()
    (event,) = wait_for(dogstatsd.events)
    assert "breaker opened|LightFM does not answer" in event


def test_an_agent_that_is_away_is_no_error() -> None:
    with DogStatsdServer() as server:
        port = server.port
    metrics = connect_metrics("127.0.0.1", port, service="bridge")
    for _ in range(100):
        metrics.count(Metric.FALLBACK)
    metrics.close()


def test_without_an_agent_nothing_is_sent() -> None:
    assert isinstance(connect_metrics(None, 8125, service="bridge"), NoMetrics)


def test_names_are_those_of_the_dashboards() -> None:
    """Other people's dashboards and monitors hold these names."""
    assert {
        "feed.recommendation.fallback",
        "feed.recommendation.latency",
        "feed.interactions.publish_latency",
        "feed.interactions.outbox_depth",
        "feed.lightfm.model_age_seconds",
        "feed.lightfm.retrain.success",
        "feed.lightfm.retrain.failure",
    } <= set(Metric)
