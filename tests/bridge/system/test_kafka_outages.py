"""The gateway as a process while Kafka is slow, full or away."""

import asyncio
import json
import time
from uuid import uuid4

from confluent_kafka import Producer

from bridge.kafka.message import DEAD_LETTER_TOPIC, INTERACTIONS_TOPIC
from deploy.local.kafka.mock import MockKafka
from tests.bridge.support.events import event, published, record, recorded
from tests.bridge.support.ingestion import running_ingestion
from tests.bridge.support.outage import ACCEPTED, timed
from tests.bridge.support.topic import read_topic
from tests.bridge.support.waiting import until


async def test_poison_goes_to_the_dead_letter_topic(postgres_url: str, kafka_bootstrap: str) -> None:
    """What cannot be read back is set aside with where it came from, and does not stop what comes after it."""
    user = f"user-{uuid4()}"
    producer = Producer({"bootstrap.servers": kafka_bootstrap, "partitioner": "murmur2_random"})
    good = {
        "userId": user,
        "videoId": "v",
        "interactionType": "like",
        "watchTime": 0,
        "timestamp": "2026-01-01T00:00:00Z",
    }
    good_id = str(uuid4())
    for event_id, value in ((str(uuid4()), "{"), (good_id, json.dumps(good))):
        producer.produce(INTERACTIONS_TOPIC, value, user, headers={"event-id": event_id, "unrecorded": "1"})
    producer.flush(10)
    async with running_ingestion(postgres_url, kafka_bootstrap) as running:
        assert await recorded(running, 1, user) == [good_id]
    letters = await asyncio.to_thread(read_topic, kafka_bootstrap, DEAD_LETTER_TOPIC, {user}, decode=bytes.decode)
    # Once or, where another member of the group leaves just then, more often: letters come at least once.
    (letter,) = {one.headers["__connect.errors.offset"]: one for one in letters}.values()
    assert letter.value == "{"
    assert letter.headers["__connect.errors.topic"] == INTERACTIONS_TOPIC
    assert letter.headers["__connect.errors.exception.class.name"] == "JSONDecodeError"
    assert int(letter.headers["__connect.errors.offset"]) >= 0


async def test_stuck_producer_is_replaced(postgres_url: str, own_kafka: MockKafka) -> None:
    """A producer that gets no acknowledgement is given up long before its messages time out, and loses none."""
    user = f"user-{uuid4()}"
    options = {"delivery.timeout.ms": 60_000, "linger.ms": 0}
    async with running_ingestion(postgres_url, own_kafka.bootstrap, options=options, stall_s=1.0) as running:
        await record(running, event(user, watch_time=0))
        assert own_kafka.child is not None
        assert running.publisher is not None
        await until(lambda: running.publisher and running.publisher._unanswered_since is None)
        first = running.publisher._producer
        own_kafka.child.suspend()
        try:
            await record(running, event(user, watch_time=1))
            await until(lambda: running.publisher and running.publisher._producer is not first)
        finally:
            own_kafka.child.resume()
        records = await published(running, own_kafka.bootstrap, INTERACTIONS_TOPIC, user)
        assert list(dict.fromkeys(one.value["watchTime"] for one in records)) == [0, 1]


async def test_full_queue_is_left_to_the_outbox(postgres_url: str, own_kafka: MockKafka) -> None:
    """Callers do not notice, and everything arrives in order once there is room."""
    user = f"user-{uuid4()}"
    options = {
        "queue.buffering.max.messages": 2,
        "linger.ms": 0,
        "delivery.timeout.ms": 2000,
        "request.timeout.ms": 900,
    }
    async with running_ingestion(postgres_url, own_kafka.bootstrap, options=options) as running:
        await record(running, event(user, watch_time=0))
        assert own_kafka.child is not None
        own_kafka.child.suspend()
        try:
            for number in range(1, 8):
                assert await timed(running, event(user, watch_time=number), most_s=1) == ACCEPTED
        finally:
            own_kafka.child.resume()
        records = await published(running, own_kafka.bootstrap, INTERACTIONS_TOPIC, user)
        assert list(dict.fromkeys(one.value["watchTime"] for one in records)) == list(range(8))


async def test_warm_before_the_first_message(postgres_url: str, kafka_bootstrap: str) -> None:
    """A warmed producer acknowledges its first message without the half second that its identity takes."""
    async with running_ingestion(postgres_url, kafka_bootstrap) as running:
        assert running.publisher is not None
        assert await running.publisher.warm(INTERACTIONS_TOPIC, 10)
    async with running_ingestion(postgres_url, "127.0.0.1:1") as running:
        assert running.publisher is not None
        started = time.monotonic()
        assert not await running.publisher.warm(INTERACTIONS_TOPIC, 0.5)
        assert time.monotonic() - started < 2
