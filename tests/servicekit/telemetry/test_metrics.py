"""Metrics reach an agent's UDP socket in DogStatsD's format, and never disturb the program."""

import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from servicekit.telemetry.dogstatsd import DogStatsd, global_tags
from servicekit.telemetry.metrics import Metric, NoMetrics, connect_metrics
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


@pytest.mark.peer
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


def test_a_name_whose_lookup_hangs_holds_nobody_up(dogstatsd: DogStatsdServer) -> None:
    """What was counted meanwhile arrives once the name is found; what there is no room for is told of."""
    found = threading.Event()

    def resolve(_: str, port: int, **kind: Any) -> Sequence[tuple[Any, ...]]:
        found.wait(60)
        return socket.getaddrinfo("127.0.0.1", port, **kind)

    client = DogStatsd("agent", dogstatsd.port, resolve=resolve)
    with capture_logs() as logs:
        for number in range(60_000):  # returns, though the thread that looks the name up does not
            client.count("feed.pages")
            client.distribution("feed.latency", number)
        found.set()
        (pages,) = dogstatsd.wait("feed.pages")
        wait_for(lambda: logs)
    client.close()
    assert pages.values == (60_000.0,)
    assert logs[0] == {"event": "metrics.lost", "metrics": 10_000, "log_level": "warning"}


def test_a_name_that_is_none_is_told_of_once_and_looked_up_again(dogstatsd: DogStatsdServer) -> None:
    answers: list[str] = ["", "", "127.0.0.1"]

    def resolve(_: str, port: int, **kind: Any) -> Sequence[tuple[Any, ...]]:
        if not (address := answers.pop(0)):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return socket.getaddrinfo(address, port, **kind)

    with capture_logs() as logs:
        client = DogStatsd("agent", dogstatsd.port, resolve=resolve)
        client.count("feed.pages")
        dogstatsd.wait("feed.pages")
        wait_for(lambda: len(logs) > 1)
        client.close()
    assert [log["event"] for log in logs] == ["metrics.not_sent", "metrics.sent"]


@pytest.mark.peer
@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_agent_at_an_ipv6_address(host: str) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as agent:
        try:
            agent.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        agent.settimeout(20)
        metrics = connect_metrics(host, agent.getsockname()[1], service="bridge")
        metrics.count(Metric.FALLBACK)
        metrics.close()
        assert agent.recv(65536) == b"feed.recommendation.fallback:1|c|#service:bridge"


@pytest.mark.peer
def test_an_agent_behind_a_socket_file(tmp_path: Path) -> None:
    """Also one that comes later, and one that is started anew."""
    path = tmp_path / "dsd.socket"
    metrics = connect_metrics(f"unix://{path}", 8125, service="bridge")
    for _ in range(2):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as agent:
            agent.bind(str(path))
            agent.settimeout(0.2)

            def received(agent: socket.socket = agent) -> bytes:
                metrics.count(Metric.FALLBACK)
                try:
                    return agent.recv(65536)
                except TimeoutError:
                    return b""

            assert wait_for(received).startswith(b"feed.recommendation.fallback:")
        path.unlink()
    metrics.close()


def test_an_event_of_several_lines_is_one_line(dogstatsd: DogStatsdServer) -> None:
    client = DogStatsd(dogstatsd.host, dogstatsd.port)
    client.event("Wächter", "one\ntwo", tags=["state:open"])
    client.close()
    assert wait_for(dogstatsd.events) == ["_e{8,8}:Wächter|one\\ntwo|#state:open"]


def test_there_is_one_service_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DD_SERVICE", "DD_ENV", "DD_VERSION", "DD_TAGS"):
        monkeypatch.delenv(name, raising=False)
    assert global_tags("bridge") == ["service:bridge"]
    monkeypatch.setenv("DD_SERVICE", "feed")
    monkeypatch.setenv("DD_TAGS", "service:other, team:video canary")
    monkeypatch.setenv("DD_ENV", "production")
    assert global_tags("bridge") == ["service:feed", "team:video", "canary", "env:production"]
