"""Messages that cannot be processed go to the dead letters, and stand in nobody's way."""

import asyncio
import json
import os
from typing import Any
from uuid import uuid4

from confluent_kafka import Producer

from bridge.kafka.message import DEAD_LETTER_TOPIC, INTERACTIONS_TOPIC
from tests.bridge.support.command import run_command
from tests.bridge.support.events import drained, recorded
from tests.bridge.support.ingestion import Ingestion
from tests.bridge.support.topic import read_topic

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
    shown = await asyncio.to_thread(run_command, "dead-letters", own_database, kafka_bootstrap)
    assert "JSONDecodeError" in shown.stdout


async def test_letters_are_replayed_once(own_database: str, kafka_bootstrap: str) -> None:
    """A letter goes back to its topic as it was, and is not sent by a second replay."""
    key, topic = f"user-{uuid4()}", INTERACTIONS_TOPIC
    producer = Producer({"bootstrap.servers": kafka_bootstrap})
    headers: list[tuple[str, str | bytes | None]] = [("event-id", "e"), ("__connect.errors.topic", topic)]
    producer.produce(DEAD_LETTER_TOPIC, b"\xffvalue", key, headers=headers)
    producer.flush(10)
    for _ in range(2):
        done = await asyncio.to_thread(run_command, "replay", own_database, kafka_bootstrap)
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
    done = await asyncio.to_thread(run_command, "replay", own_database, kafka_bootstrap)
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
