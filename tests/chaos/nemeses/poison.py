"""Nemeses of data: rows that somebody else wrote into Postgres, messages that somebody else sent to Kafka."""

import json
import random
from datetime import UTC, datetime
from typing import Any, ClassVar, Final
from uuid import uuid4

import psycopg
from confluent_kafka import Producer

from bridge.kafka.message import INTERACTIONS_TOPIC
from tests.chaos.nemeses.nemesis import Attack, Nemesis
from tests.chaos.system.cluster import POISON, Cluster
from tests.support.polling import wait_for

PAUSE_S: Final = 0.5
DEEP: Final = 5_000
LEARNERS: Final = 5
"""Users of whom something is told among the poison."""
NOW: Final = "now()"


class PoisonRows(Nemesis):
    """Rows of interactions with tiny, huge and impossible values, written into Postgres by other hands."""

    name: ClassVar[str] = "poison rows"
    columns: ClassVar[tuple[dict[str, str], ...]] = (
        {"interaction_type": "'rating'", "rating": "5e-324"},
        {"interaction_type": "'rating'", "rating": "1e308"},
        {"interaction_type": "'rating'", "rating": "-1e308"},
        {"interaction_type": "'rating'", "rating": "'NaN'"},
        {"interaction_type": "'rating'", "rating": "'Infinity'"},
        {"interaction_type": "'rating'", "rating": "'-Infinity'"},
        {"watch_time_ms": "9223372036854775807"},
        {"watch_time_ms": "-9223372036854775808"},
        {"occurred_at": "'9999-12-31 23:59:59Z'"},
        {"occurred_at": "'infinity'"},
        {"occurred_at": "'-infinity'"},
        {"occurred_at": "'0044-03-15 12:00:00Z BC'"},
        {"interaction_type": "'what?'"},
        {"video_id": "repeat('x', 1000)"},
        {"video_id": "''"},
        {"video_id": "E'v\\n\\x1b[31m'"},
        {"recommendation_score": "'NaN'"},
        {"metadata": "'[]'"},
    )

    def begin(self) -> None:
        """Write one of each."""
        for number, changes in enumerate(self.columns):
            row = {
                "user_id": f"'{POISON}row-{number}'",
                "video_id": "'v1'",
                "interaction_type": "'watch'",
                "occurred_at": NOW,
            } | changes
            statement = f"INSERT INTO user_interactions ({', '.join(row)}) VALUES ({', '.join(row.values())})"  # noqa: S608  # constants
            try:
                self.cluster.query(statement)
            except psycopg.DataError:
                continue  # the table refuses it: better still
            except psycopg.IntegrityError:
                continue

    def clean(self) -> None:
        """Delete them."""
        self.cluster.remove_poison()


class PoisonMessages(Nemesis):
    """Messages in Kafka that are no interactions, or impossible ones, with good ones among them."""

    name: ClassVar[str] = "poison messages"

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        super().__init__(cluster, rng)
        self._producer = Producer({"bootstrap.servers": cluster.peers.environment["KAFKA_BOOTSTRAP_SERVERS"]})
        self._attack: Attack | None = None
        self._told: dict[str, str] = {}

    def begin(self) -> None:
        """Tell of something that users did, in the midst of poison, and go on with poison."""
        learners = [f"u{1000 + self.rng.randrange(900)}" for _ in range(LEARNERS)]
        self._told = {user: self.cluster.page(user).videos[0].video_id for user in learners}
        values = poison_values()
        for user, video in self._told.items():
            for number, value in enumerate(values):
                self._send(user, value)
                if number == len(values) // 2:
                    self._send(user, _interaction(user, videoId=video))
        self._producer.flush(10)
        self._attack = Attack(self._poison, pause_s=PAUSE_S)

    def end(self) -> None:
        """Stop."""
        if self._attack:
            self._attack.stop()
        self._producer.flush(10)

    def check(self, patience_s: float) -> None:
        """What was told among the poison is known: what a user saw is on that user's page no more."""
        for user, video in self._told.items():
            wait_for(
                lambda user=user, video=video: self._is_learnt(user, video),  # type: ignore[misc]  # bound
                timeout_s=patience_s,
                interval_s=0.2,
                what=f"what a user saw, told between poison messages ({user}, {video}),",
            )

    def clean(self) -> None:
        """Forget what reached Postgres."""
        self.cluster.remove_poison()

    def _is_learnt(self, user: str, video: str) -> bool:
        page = self.cluster.page(user)
        return page.served_by == 1 and video not in [one.video_id for one in page.videos]

    def _poison(self) -> None:
        for value in poison_values():
            self._send(f"{POISON}{self.rng.randrange(100)}", value)
        self._producer.poll(0)

    def _send(self, key: str, value: bytes | None) -> None:
        headers: Any = [("event-id", str(uuid4()).encode()), ("unrecorded", b"1"), ("rating", b"5e-324")]
        try:
            self._producer.produce(INTERACTIONS_TOPIC, value, key.encode(), headers=headers[: self.rng.randrange(4)])
        except BufferError:
            self._producer.poll(0.1)


def poison_values() -> list[bytes]:
    """Return the values of messages that no reader may stumble over."""
    user = f"{POISON}message"
    return [
        b"",
        b"\xff\xfe\x00",
        b"[" * DEEP,
        b'{"userId":' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"a":' * DEEP + b"1" + b"}" * DEEP,
        b"null",
        b"[]",
        b'"text"',
        b"1" * 5000,
        _interaction(user, userId=None),
        _interaction(user, userId=True),
        _interaction(user, videoId=1.5),
        _interaction(user, videoId="x" * 10_000),
        _interaction(user, videoId="a\u0000b"),
        _interaction(user, watchTime=10**400),
        _interaction(user, watchTime=-(10**18)),
        _interaction(user, watchTime=float("nan")),
        _interaction(user, watchTime=1e308),
        _interaction(user, interactionType="what?"),
        _interaction(user, interactionType="rating"),
        _interaction(user, timestamp="9999-12-31T23:59:59.999Z"),
        _interaction(user, timestamp="0001-01-01T00:00:00.000Z"),
        _interaction(user, timestamp="9999-12-31T23:59:59.999-14:00"),
        _interaction(user, timestamp="yesterday"),
        _interaction(user, timestamp=1e300),
        b'{"userId": "\\ud800", "videoId": "v1", "interactionType": "watch", "watchTime": 1, "timestamp": "x"}',
    ]


def _interaction(user: str, **changes: Any) -> bytes:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    value = {"userId": user, "videoId": "v1", "interactionType": "watch", "watchTime": 9_000, "timestamp": now}
    return json.dumps(value | changes).encode()
