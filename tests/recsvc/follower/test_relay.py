"""What waited for Kafka reaches it, in order, and nothing stands in its way."""

from pathlib import Path

import pytest

from deploy.local.kafka.mock import MockKafka
from recsvc.follower.relay import Relay
from recsvc.live_state.pending import Pending
from servicekit.telemetry.metrics import Metric
from tests.recsvc.support.followers import UPDATES, CountedMetrics, told
from tests.recsvc.support.topics import messages_of
from tests.support.polling import wait_for

pytestmark = pytest.mark.peer


def test_what_waits_is_sent_in_order_and_removed(tmp_path: Path, own_kafka: MockKafka) -> None:
    pending, metrics = Pending(tmp_path), CountedMetrics()
    values = [told(f"v{number}") for number in range(1200)]
    for value in values:
        pending.add(UPDATES, b"u", value)
    pending.add(UPDATES, b"u", None, [("erased-at", b"2026-01-01T00:00:00.000Z")])
    relay = Relay(pending, {"bootstrap.servers": own_kafka.bootstrap}, metrics)

    relay.look()

    found = messages_of(own_kafka.bootstrap, "u")
    assert [one.value for one in found] == [*values, None]
    assert found[-1].headers == [("erased-at", b"2026-01-01T00:00:00.000Z")]
    assert len(pending) == 0
    assert metrics.gauges[Metric.LIVE_STATE_PENDING] == 0


def test_what_waits_is_sent_when_the_brokers_come_back(tmp_path: Path, own_kafka: MockKafka) -> None:
    pending, metrics = Pending(tmp_path), CountedMetrics()
    relay = Relay(pending, {"bootstrap.servers": own_kafka.bootstrap, "delivery.timeout.ms": 500}, metrics)
    assert own_kafka.child
    own_kafka.child.suspend()
    relay.start()
    try:
        pending.add(UPDATES, b"u", told("v1"))
        wait_for(lambda: metrics.gauges.get(Metric.LIVE_STATE_PENDING) == 1, what="it waits")
    finally:
        own_kafka.child.resume()
    wait_for(lambda: len(pending) == 0, what="it is sent", timeout_s=60)
    relay.stop()
    assert [one.key for one in messages_of(own_kafka.bootstrap, "u")] == [b"u"]


def test_a_record_that_kafka_never_takes_holds_up_no_other(tmp_path: Path, own_kafka: MockKafka) -> None:
    pending = Pending(tmp_path)
    for user, size in ((b"one", 10), (b"large", 100_000), (b"two", 10)):
        pending.add(UPDATES, user, b"x" * size)
    client = {"bootstrap.servers": own_kafka.bootstrap, "message.max.bytes": 50_000}
    relay = Relay(pending, client, CountedMetrics())

    relay.look()

    assert len(pending) == 0
    assert [len(messages_of(own_kafka.bootstrap, user)) for user in ("one", "large", "two")] == [1, 0, 1]
