"""Reads back from Postgres and Kafka what clients were told is durable."""

import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import psycopg

from bridge.kafka.message import INTERACTIONS_TOPIC
from tests.bridge.support.topic import read_topic
from tests.consistency.history import Acknowledged, History


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What clients sent, and what they were told of it.

    Attributes:
        acknowledged: As in a history.
        refused: As in a history.
        sent: The watch time of each event, which tells them apart.
    """

    acknowledged: Sequence[Acknowledged]
    refused: int
    sent: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Stores:
    """Where events are durable."""

    bootstrap: str
    database_url: str

    def history(self, told: Told, users: Container[str]) -> History:
        """Return what was told beside what is there of these users."""
        with psycopg.connect(self.database_url) as connection:
            everything = connection.execute("SELECT event_id::text, user_id, watch_time_ms FROM user_interactions")
            rows = [(event_id, watched) for event_id, user, watched in everything if user in users]
        records = read_topic(self.bootstrap, INTERACTIONS_TOPIC, users)
        found = rows + [(record.headers["event-id"], record.value["watchTime"]) for record in records]
        return History(
            acknowledged=told.acknowledged,
            refused=told.refused,
            rows=[event_id for event_id, _ in rows],
            messages=[(record.key, record.headers["event-id"]) for record in records],
            altered=[event_id for event_id, watched in found if told.sent.get(event_id) != watched],
        )

    def outbox_depth(self) -> int:
        """Return how many messages wait to be sent to Kafka."""
        with psycopg.connect(self.database_url) as connection:
            row = connection.execute("SELECT count(*) FROM interactions_outbox").fetchone()
        return int(row[0]) if row else 0


def settled(stores: Stores, told: Told, users: Container[str], *, timeout_s: float) -> History:
    """Read everything back as soon as both sides hold the same events, or when that takes too long."""
    deadline = time.monotonic() + timeout_s
    while True:
        history = stores.history(told, users)
        same = {event_id for _, event_id in history.messages} == set(history.rows)
        if (same and not stores.outbox_depth()) or time.monotonic() > deadline:
            return history
        time.sleep(0.5)
