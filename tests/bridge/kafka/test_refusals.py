"""Messages that Kafka refuses for good: set aside, told of, and sent again when people say so."""

import asyncio
import json
import os
import time
from dataclasses import dataclass
from uuid import uuid4

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are public
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from bridge.kafka.message import INTERACTIONS_TOPIC
from deploy.local.kafka.choice import choose_kafka
from tests.bridge.support.command import run_command
from tests.bridge.support.events import drained, event, record
from tests.bridge.support.ingestion import Ingestion
from tests.bridge.support.topic import read_topic
from tests.bridge.support.waiting import until
from tests.support.dogstatsd import DogStatsdServer

SMALL = 2000
"""Bytes that a message may have in the small topic."""


@dataclass(frozen=True, slots=True)
class SmallTopic:
    """A topic that takes small messages only."""

    name: str
    admin: AdminClient

    def widen(self) -> None:
        """Take larger ones."""
        wider = ConfigEntry("max.message.bytes", str(10 * SMALL), incremental_operation=AlterConfigOpType.SET)
        change = ConfigResource(ResourceType.TOPIC, self.name, incremental_configs=[wider])
        self.admin.incremental_alter_configs([change])[change].result(15)


@pytest.fixture
def small_topic(kafka_bootstrap: str) -> SmallTopic:
    """A topic of the test's own."""
    if choose_kafka().jars is None:
        pytest.skip("the mock cluster has no limits")
    small = SmallTopic(f"test.small.{uuid4()}", AdminClient({"bootstrap.servers": kafka_bootstrap}))
    topic = NewTopic(small.name, 1, 1, config={"max.message.bytes": str(SMALL)})
    small.admin.create_topics([topic])[small.name].result(15)
    return small


async def _leave(running: Ingestion, topic: str, messages: list[tuple[str, int, int]]) -> list[str]:
    """Leave messages in the outbox as a bridge that died would: (key, number, bytes); return their event ids."""
    ids = [str(uuid4()) for _ in messages]
    async with running.database.connection() as connection:
        for event_id, (key, number, size) in zip(ids, messages, strict=True):
            value = json.dumps({"number": number, "padding": os.urandom(size // 2).hex()})
            await connection.execute(
                "INSERT INTO interactions_outbox (id, aggregatetype, aggregateid, type, payload, headers, created_at)"
                " VALUES (%s, %s, %s, 'watch', %s, %s, now() - interval '1 minute')",
                [event_id, topic, key, value, json.dumps({"event-id": event_id})],
            )
    return ids


async def test_refused_message_stands_in_nobodys_way(
    ingestion: Ingestion, small_topic: SmallTopic, own_database: str, kafka_bootstrap: str
) -> None:
    """Of a batch that the broker refuses only the large message is set aside; the others arrive, in their order.

    It is counted, shown to operators, and sent again on their word, once the topic takes it.
    """
    user, other = f"user-{uuid4()}", f"user-{uuid4()}"
    small = [(key, number, 20) for number in range(8) for key in (user, other)]
    ids = await _leave(ingestion, small_topic.name, [*small[:8], (user, 99, 2 * SMALL), *small[8:]])
    await drained(ingestion)
    records = read_topic(kafka_bootstrap, small_topic.name, {user, other})
    for key in (user, other):
        numbers = [one.value["number"] for one in records if one.key == key]
        assert list(dict.fromkeys(numbers)) == list(range(8))
    ((dead, reason),) = await ingestion.rows("SELECT id::text, reason FROM interactions_outbox_dead")
    assert dead == ids[8]
    assert "size too large" in reason.lower()
    shown = await asyncio.to_thread(run_command, "dead-letters", own_database, kafka_bootstrap)
    assert shown.returncode == 1, shown.stderr
    assert f"{dead} {small_topic.name} {user}: {reason}" in shown.stdout

    small_topic.widen()
    again = await asyncio.to_thread(run_command, "replay", own_database, kafka_bootstrap)
    assert again.stdout.startswith("1 messages are in the outbox again\n"), again.stderr
    await drained(ingestion)
    records = await asyncio.to_thread(read_topic, kafka_bootstrap, small_topic.name, {user})
    assert [one.headers["event-id"] for one in records if one.value["number"] == 99] == [dead]
    assert await ingestion.rows("SELECT 1 FROM interactions_outbox_dead") == []


async def test_live_traffic_goes_on(
    ingestion: Ingestion, small_topic: SmallTopic, kafka_bootstrap: str, dogstatsd: DogStatsdServer
) -> None:
    """Interactions recorded while the relay deals with refused messages arrive as ever, and these are counted."""
    user = f"user-{uuid4()}"
    await _leave(ingestion, small_topic.name, [(user, number, 2 * SMALL) for number in range(20)])
    for number in range(100):
        await record(ingestion, event(user, watch_time=number))
    await drained(ingestion)
    assert await ingestion.rows("SELECT count(*) FROM interactions_outbox_dead") == [(20,)]
    await until(lambda: dogstatsd.packets("feed.interactions.dead_letters"))
    records = await asyncio.to_thread(read_topic, kafka_bootstrap, INTERACTIONS_TOPIC, {user})
    assert list(dict.fromkeys(one.value["watchTime"] for one in records)) == list(range(100))


async def test_larger_than_any_message(ingestion: Ingestion, kafka_bootstrap: str) -> None:
    """What the producer itself refuses is set aside as well."""
    user = f"user-{uuid4()}"
    await _leave(ingestion, INTERACTIONS_TOPIC, [(user, 0, 1_200_000), (user, 1, 10)])
    await drained(ingestion)
    assert len(await ingestion.rows("SELECT 1 FROM interactions_outbox_dead")) == 1
    (one,) = await asyncio.to_thread(read_topic, kafka_bootstrap, INTERACTIONS_TOPIC, {user})
    assert one.value["number"] == 1


async def test_a_topic_that_takes_nothing_stands_in_no_others_way(ingestion: Ingestion, kafka_bootstrap: str) -> None:
    """Neither one that cannot be, whose messages are set aside, nor one that nobody made, whose messages wait."""
    user = f"user-{uuid4()}"
    insert = (
        "INSERT INTO interactions_outbox (id, created_at, aggregatetype, aggregateid, type, payload, headers)"
        " SELECT gen_random_uuid(), now() - interval '1 minute', %s, %s, 'watch', '{}', '{}'"
        " FROM generate_series(1, %s) RETURNING id"
    )
    ((impossible,),) = await ingestion.rows(insert, "no such topic!", user, 1)
    missing = f"missing-{uuid4()}"
    if choose_kafka().jars is not None:  # the mock cluster makes any
        await ingestion.rows(insert, missing, user, 1100)
    await ingestion.rows(insert, INTERACTIONS_TOPIC, user, 1)
    deadline = time.monotonic() + 60
    while rows := await ingestion.rows("SELECT 1 FROM interactions_outbox WHERE aggregatetype <> %s", missing):
        assert time.monotonic() < deadline, rows
        await asyncio.sleep(0.05)
    assert len(await asyncio.to_thread(read_topic, kafka_bootstrap, INTERACTIONS_TOPIC, {user})) == 1
    assert await ingestion.rows("SELECT 1 FROM interactions_outbox_dead WHERE id = %s", impossible) == [(1,)]
    await ingestion.rows("DELETE FROM interactions_outbox RETURNING 1")
