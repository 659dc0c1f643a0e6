"""Delivery to an HTTP endpoint that fails as told."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from bridge.analytics.segment_sender import MAX_EVENT_BYTES, SegmentPolicy, SegmentSender
from servicekit.bounded import ENTRY_BYTES
from servicekit.process.ports import free_port
from servicekit.telemetry.metrics import Metric, NoMetrics
from tests.support.polling import wait_for
from tests.support.segment import SegmentServer

pytestmark = pytest.mark.peer

QUICK = SegmentPolicy(pause_s=0.01, timeout_s=0.3, first_retry_s=0.01, last_retry_s=0.04, attempts=4)
SMALL = replace(QUICK, waiting_bytes=1 << 18)


class Counts(NoMetrics):
    """Counts what it is told."""

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, metric: Metric, value: int = 1, *, tags: list[str] | None = None) -> None:
        with self._lock:
            self.of[" ".join([metric.rpartition(".")[2], *(tags or ())])] += value


@pytest.fixture
def server() -> Iterator[SegmentServer]:
    with SegmentServer() as server:
        yield server


def _sender(url: str, counts: Counts, policy: SegmentPolicy = QUICK) -> SegmentSender:
    return SegmentSender("key", counts, url=url, policy=policy)


def _event(number: int, **fields: Any) -> dict[str, Any]:
    return {"type": "track", "messageId": f"m{number}", **fields}


def test_events_arrive_once_in_batches_and_in_order(server: SegmentServer) -> None:
    counts = Counts()
    sender = _sender(server.url, counts)
    for number in range(250):
        sender.send(_event(number, text="ü\u2028"))
    assert sender.close(flush_s=5) == 0
    assert [event["messageId"] for event in server.events] == [f"m{number}" for number in range(250)]
    assert max(map(len, server.batches)) == 100
    assert server.events[0]["text"] == "ü\u2028"
    assert server.authorizations == {"Basic a2V5Og=="}
    assert counts.of == {"sent": 250}


@pytest.mark.parametrize("failures", [[500], [503, 429, 500], [0], [408, 0]])
def test_what_may_pass_is_sent_again(server: SegmentServer, failures: list[int]) -> None:
    """Errors of the server, throttling and silence cost no event and make no second one."""
    server.statuses.extend(failures)
    counts = Counts()
    sender = _sender(server.url, counts)
    sender.send(_event(1))
    wait_for(lambda: counts.of["sent"] == 1)
    assert [event["messageId"] for event in server.events] == ["m1"]
    assert server.requests == len(failures) + 1
    sender.close(flush_s=1)


@pytest.mark.parametrize("status", [400, 401, 403, 501, 302])
def test_what_cannot_pass_is_not_sent_again(server: SegmentServer, status: int) -> None:
    """The batch is lost and counted, and the next one goes out."""
    server.statuses.append(status)
    counts = Counts()
    sender = _sender(server.url, counts)
    sender.send(_event(1))
    wait_for(lambda: counts.of["lost reason:refused"] == 1)
    sender.send(_event(2))
    wait_for(lambda: counts.of["sent"] == 1)
    assert server.requests == 2
    sender.close(flush_s=1)


def test_attempts_end(server: SegmentServer) -> None:
    server.otherwise = 500
    counts = Counts()
    sender = _sender(server.url, counts)
    sender.send(_event(1))
    wait_for(lambda: counts.of["lost reason:refused"] == 1)
    assert server.requests == QUICK.attempts
    sender.close(flush_s=1)


def test_black_hole_never_blocks(server: SegmentServer) -> None:
    """An endpoint that takes connections and says nothing: each event is left in microseconds, memory is bounded."""
    server.otherwise = 0
    counts = Counts()
    sender = _sender(server.url, counts, SMALL)
    started = time.monotonic()
    for number in range(5000):
        sender.send(_event(number))
    assert time.monotonic() - started < 1
    assert sender._waiting.bytes <= SMALL.waiting_bytes
    assert counts.of["lost reason:queue_full"] >= 5000 - SMALL.waiting_bytes // ENTRY_BYTES - 10 * QUICK.batch
    started = time.monotonic()
    sender.close(flush_s=0.2)
    assert time.monotonic() - started < 0.2 + 2 * QUICK.timeout_s + 0.5
    assert sum(counts.of.values()) == 5000, "every event is accounted for"


def test_nobody_listens() -> None:
    counts = Counts()
    sender = _sender(f"http://127.0.0.1:{free_port()}/v1/batch", counts)
    sender.send(_event(1))
    wait_for(lambda: counts.of["lost reason:unreachable"] == 1)
    assert sender.close(flush_s=0.1) == 0


def test_too_large_event_is_lost_alone(server: SegmentServer) -> None:
    counts = Counts()
    sender = _sender(server.url, counts)
    sender.send(_event(1))
    sender.send(_event(2, text="x" * MAX_EVENT_BYTES))
    sender.send(_event(3))
    assert sender.close(flush_s=5) == 0
    assert [event["messageId"] for event in server.events] == ["m1", "m3"]
    assert counts.of == {"sent": 2, "lost reason:too_large": 1}


def test_large_events_make_small_batches(server: SegmentServer) -> None:
    counts = Counts()
    sender = _sender(server.url, counts)
    for number in range(40):
        sender.send(_event(number, text="x" * 30_000))
    assert sender.close(flush_s=5) == 0
    assert len(server.events) == 40
    assert max(map(len, server.batches)) <= 14


@pytest.mark.parametrize("value", ["\ud800", float("nan"), {"a", "set"}])
def test_an_event_that_no_json_can_hold_is_lost_alone(server: SegmentServer, value: Any) -> None:
    counts = Counts()
    sender = _sender(server.url, counts)
    for number, text in enumerate(["a", value, "b"]):
        sender.send(_event(number, text=text))
    assert sender.close(flush_s=5) == 0
    assert [event["messageId"] for event in server.events] == ["m0", "m2"]
    assert counts.of == {"sent": 2, "lost reason:not_json": 1}
