"""Messages that Kafka refuses for good: set aside, told of, and sent again when people say so."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are public
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from bridge.kafka.message import DEAD_LETTER_TOPIC, INTERACTIONS_TOPIC
from deploy.local.kafka.choice import choose_kafka
from deploy.local.postgres import Postgres
from servicekit.telemetry.metrics import connect_metrics
from tests.bridge.support.events import drained, event, record, recorded
from tests.bridge.support.ingestion import Ingestion, running_ingestion
from tests.bridge.support.topic import read_topic
from tests.bridge.support.waiting import until
from tests.support.dogstatsd import DogStatsdServer

ROOT = Path(__file__).parents[3]
SMALL = 2000
"""Bytes that a message may have in the small topic."""


@pytest.fixture
def own_database(postgres_server: Postgres) -> str:
    """A database that no other relay looks at."""
    return postgres_server.create_database(f"test_{uuid4().hex}")


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


@pytest.fixture
async def ingestion(own_database: str, kafka_bootstrap: str, dogstatsd: DogStatsdServer) -> AsyncIterator[Ingestion]:
    metrics = connect_metrics(dogstatsd.host, dogstatsd.port, service="bridge")
    async with running_ingestion(own_database, kafka_bootstrap, metrics=metrics) as running:
        yield running
    metrics.close()


def _run(command: str, database: str, bootstrap: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    environment |= {"DATABASE_URL": database, "KAFKA_BOOTSTRAP_SERVERS": bootstrap}
    return subprocess.run(
        [sys.executable, "-m", "bridge", command],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


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
    shown = await asyncio.to_thread(_run, "dead-letters", own_database, kafka_bootstrap)
    assert shown.returncode == 1, shown.stderr
    assert f"{dead} {small_topic.name} {user}: {reason}" in shown.stdout

    small_topic.widen()
    again = await asyncio.to_thread(_run, "replay", own_database, kafka_bootstrap)
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


FIELDS: dict[str, Any] = {
    "userId": "u",
    "videoId": "v",
    "interactionType": "like",
    "watchTime": 0,
    "timestamp": "2026-01-01T00:00:00Z",
}
POISON = {
    "no JSON": b"{",
    "no object": b"[1]",
    "no UTF-8": b'{"userId": "\xff"}',
    "infinite": json.dumps(FIELDS | {"watchTime": float("inf")}).encode(),
    "half a character": json.dumps(FIELDS | {"userId": "\ud800"}).encode(),
    "more than Postgres holds": json.dumps(FIELDS | {"watchTime": 10**20}).encode(),
    "larger than an index holds": json.dumps(FIELDS | {"userId": os.urandom(8000).hex()}).encode(),
    "larger than a dead letter may be": b"\xff" * 400_000,
    "nested deeply": b'{"userId": ' + b"[" * 200_000,
    "true for a user": json.dumps(FIELDS | {"userId": True}).encode(),
    "null for a user": json.dumps(FIELDS | {"userId": None}).encode(),
    "a number for a video": json.dumps(FIELDS | {"videoId": 1.5}).encode(),
    "true for a time": json.dumps(FIELDS | {"watchTime": True}).encode(),
    "half a millisecond": json.dumps(FIELDS | {"watchTime": 1.5}).encode(),
    "a local time": json.dumps(FIELDS | {"timestamp": "2026-01-01T00:00:00"}).encode(),
    "a time of another age": json.dumps(FIELDS | {"timestamp": "9999-12-31T23:59:59Z"}).encode(),
    "a time beyond the calendar": json.dumps(FIELDS | {"timestamp": "0001-01-01T00:00:00+14:00"}).encode(),
    "a number for a type": json.dumps(FIELDS | {"interactionType": 4}).encode(),
}
ODD_HEADERS = {
    "metadata that is a list": {"metadata": "[]"},
    "metadata that nests": {"metadata": '{"a": {"b": 1}}'},
    "metadata without end": {"metadata": "[" * 200_000},
    "an infinite score": {"recommendation-score": "inf"},
    "a score that is none": {"recommendation-score": "nan"},
    "a score with underscores": {"recommendation-score": "1_0"},
    "a rating that is too high": {"rating": "5.5"},
    "an id in braces": {"event-id": "{0b0e7a40-0000-4000-8000-000000000000}"},
    "no id": {"event-id": ""},
}


def _marked(event_id: str) -> list[tuple[str, str | bytes | None]]:
    return [("event-id", event_id), ("unrecorded", "1")]


async def test_no_poison_stops_the_backfill(ingestion: Ingestion, kafka_bootstrap: str, own_database: str) -> None:
    """Whatever is in the topic, what comes after it reaches Postgres, and each poisonous message is a dead letter."""
    user, poison = f"user-{uuid4()}", f"poison-{uuid4()}"
    producer = Producer({"bootstrap.servers": kafka_bootstrap})
    for value in POISON.values():
        producer.produce(INTERACTIONS_TOPIC, value, poison, headers=_marked(str(uuid4())), partition=0)
    for odd in ODD_HEADERS.values():
        headers = [*(dict(_marked(str(uuid4()))) | odd).items()]
        producer.produce(INTERACTIONS_TOPIC, json.dumps(FIELDS), poison, headers=headers, partition=0)
    producer.produce(INTERACTIONS_TOPIC, None, b"\0" + poison.encode(), partition=0)  # a tombstone of an impossible key
    good_id = str(uuid4())
    good = json.dumps(FIELDS | {"userId": user})
    producer.produce(INTERACTIONS_TOPIC, good, user, headers=_marked(good_id), partition=0)
    producer.flush(10)
    assert await recorded(ingestion, 1, user) == [good_id]
    keys = {poison, "\0" + poison, ""}
    letters = await asyncio.to_thread(read_topic, kafka_bootstrap, DEAD_LETTER_TOPIC, keys, decode=bytes)
    ours = [one for one in letters if one.key or not one.value]
    places = {one.headers["__connect.errors.offset"] for one in ours}  # a reader that takes over writes some again
    assert len(places) == len(POISON) + len(ODD_HEADERS) + 1
    assert {one.headers["__connect.errors.topic"] for one in ours} == {INTERACTIONS_TOPIC}
    shown = await asyncio.to_thread(_run, "dead-letters", own_database, kafka_bootstrap)
    assert "JSONDecodeError" in shown.stdout


async def test_letters_are_replayed_once(own_database: str, kafka_bootstrap: str) -> None:
    """A letter goes back to its topic as it was, and is not sent by a second replay."""
    key, topic = f"user-{uuid4()}", INTERACTIONS_TOPIC
    producer = Producer({"bootstrap.servers": kafka_bootstrap})
    headers: list[tuple[str, str | bytes | None]] = [("event-id", "e"), ("__connect.errors.topic", topic)]
    producer.produce(DEAD_LETTER_TOPIC, b"\xffvalue", key, headers=headers)
    producer.flush(10)
    for _ in range(2):
        done = await asyncio.to_thread(_run, "replay", own_database, kafka_bootstrap)
        assert done.returncode == 0, done.stderr
    (letter,) = await asyncio.to_thread(read_topic, kafka_bootstrap, topic, {key}, decode=bytes)
    assert (letter.value, letter.headers) == (b"\xffvalue", {"event-id": "e"})


async def test_one_letter_does_not_stop_a_replay(own_database: str, kafka_bootstrap: str) -> None:
    """What names no topic of the system is a dead letter once more, and is told of; the others are sent."""
    key = f"user-{uuid4()}"
    producer = Producer({"bootstrap.servers": kafka_bootstrap})
    for topic in ("no such topic!", "__consumer_offsets", "", INTERACTIONS_TOPIC):
        headers: list[tuple[str, str | bytes | None]] = [("__connect.errors.topic", topic)]
        producer.produce(DEAD_LETTER_TOPIC, topic.encode(), key, headers=headers)
    producer.flush(10)
    done = await asyncio.to_thread(_run, "replay", own_database, kafka_bootstrap)
    assert done.returncode == 1, done.stderr
    assert "  no such topic!/?/? is a dead letter once more: " in done.stdout
    (letter,) = await asyncio.to_thread(read_topic, kafka_bootstrap, INTERACTIONS_TOPIC, {key}, decode=bytes.decode)
    assert letter.value == INTERACTIONS_TOPIC
    again = await asyncio.to_thread(read_topic, kafka_bootstrap, DEAD_LETTER_TOPIC, {key}, decode=bytes.decode)
    assert sorted(one.value for one in again[4:]) == ["", "__consumer_offsets", "no such topic!"]


async def test_an_odd_row_stands_in_nobodys_way(ingestion: Ingestion, kafka_bootstrap: str) -> None:
    """Other programs may write to the outbox: what the relay cannot read it sets aside, and sends the rest."""
    user = f"user-{uuid4()}"
    insert = (
        "INSERT INTO interactions_outbox (id, created_at, aggregatetype, aggregateid, type, payload, headers)"
        " VALUES (%s, now() - interval '1 minute', %s, %s, 'watch', '{}', %s::json) RETURNING id"
    )
    before = len(await ingestion.rows("SELECT 1 FROM interactions_outbox_dead"))
    for headers in ("[]", "null", "7", '{"event-id": 7}', '{"event-id": null}'):
        await ingestion.rows(insert, uuid4(), INTERACTIONS_TOPIC, user, headers)
    for headers in ('{"\\ud800": "half a character"}', '{"half a character": "\\ud800"}'):
        await ingestion.rows(insert, uuid4(), INTERACTIONS_TOPIC, user, headers)
    for headers in (f'{{"a": 1{"0" * 5000}}}', '{"a": ' + "[" * 3000 + "]" * 3000 + "}"):
        await ingestion.rows(insert, uuid4(), INTERACTIONS_TOPIC, user, headers)
    await ingestion.rows(insert, uuid4(), "", user, "{}")
    await ingestion.rows(insert, uuid4(), INTERACTIONS_TOPIC, user, '{"event-id": "good"}')
    await drained(ingestion)
    (one,) = await asyncio.to_thread(read_topic, kafka_bootstrap, INTERACTIONS_TOPIC, {user})
    assert one.headers == {"event-id": "good"}
    reasons = [row[0] for row in await ingestion.rows("SELECT reason FROM interactions_outbox_dead")]
    assert len(reasons) == before + 10
    assert sum(reason.startswith("headers is no JSON object of strings") for reason in reasons) == 8
    assert reasons.count("no UTF-8: surrogates not allowed") == 1


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
