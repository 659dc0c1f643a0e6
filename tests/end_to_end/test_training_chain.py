"""What was recorded through the bridge is what is exported is what is trained on."""

import asyncio
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pyarrow.parquet as pq
import pytest

from bridge.kafka.message import iso_milliseconds
from deploy.local.postgres import Postgres
from modelstore.artefact import Model, read
from modelstore.registry import Registry
from retrain.data.exports import midnight
from servicekit.storage.object_store import FileStore
from tests.bridge.support.ingestion import Ingestion, running_ingestion
from videowindow.feed.v1 import interaction_pb2 as pb

ROOT = Path(__file__).parents[2]
DAYS = 4
USERS = 48
VIDEOS = 60
VIEWS_A_DAY = 8
KINDS = [name for name, number in pb.InteractionType.items() if number]
ERASED = "user-7"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """An event as a client knows it."""

    event_id: str
    user: str
    video: str
    kind: str
    watch_ms: int
    at: datetime

    @property
    def message(self) -> pb.Interaction:
        """The event as it is sent."""
        extra: dict[str, Any] = {"rating": 4.0} if self.kind.endswith("RATING") else {}
        extra |= {"search_query": "cats"} if self.kind.endswith("SEARCH") else {}
        event = pb.Interaction(
            event_id=self.event_id,
            user_id=self.user,
            video_id=self.video,
            interaction_type=pb.InteractionType.Value(self.kind),
            watch_time=self.watch_ms,
            **extra,
        )
        event.timestamp.FromDatetime(self.at)
        return event

    @property
    def exported(self) -> tuple[str, str, str, int, str]:
        """The event as a row of the exports."""
        kind = self.kind.removeprefix("INTERACTION_TYPE_").lower()
        return self.user, self.video, kind, self.watch_ms, iso_milliseconds(self.at)

    @property
    def learnt(self) -> tuple[str, str, str, str]:
        """What makes it one event of training: a delivery that came twice differs in its watch time at most."""
        user, video, kind, _, at = self.exported
        return user, video, kind, at


def _days() -> list[date]:
    today = datetime.now(UTC).date()
    return [today - timedelta(days=ago) for ago in range(DAYS, 0, -1)]


def _feed(rng: random.Random) -> list[Sent]:
    """Users of one half watch videos of one half, so that there is something to learn; every kind occurs."""
    events = []
    for day in _days():
        for user in range(USERS):
            for _ in range(VIEWS_A_DAY):
                video = rng.randrange(VIDEOS // 2) + (user % 2) * (VIDEOS // 2)
                kind = rng.choice(KINDS) if rng.random() < 0.3 else "INTERACTION_TYPE_WATCH"
                events.append(_event(rng, f"user-{user}", f"video-{video}", kind, day))
    return events


def _event(rng: random.Random, user: str, video: str, kind: str, day: date) -> Sent:
    at = midnight(day) + timedelta(milliseconds=rng.randrange(86_400_000))
    event_id = str(UUID(int=rng.getrandbits(128), version=4))
    return Sent(event_id=event_id, user=user, video=video, kind=kind, watch_ms=rng.randrange(60_000), at=at)


async def _stream(running: Ingestion, events: Iterable[Sent]) -> Counter[int]:
    async def requests() -> AsyncIterator[pb.StreamInteractionsRequest]:
        for event in events:
            yield pb.StreamInteractionsRequest(interaction=event.message)

    replies = [reply async for reply in running.stub.StreamInteractions(requests(), timeout=60)]
    return Counter(reply.status for reply in replies)


async def _program(*arguments: str, env: dict[str, str], status: int = 0) -> str:
    own = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}

    def run() -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", *arguments]
        return subprocess.run(command, cwd=ROOT, env=own | env, capture_output=True, text=True, check=False)

    done = await asyncio.to_thread(run)
    assert done.returncode == status, done.stderr
    return done.stdout


def _exported(folder: Path, day: date) -> Counter[tuple[Any, ...]]:
    tables = [pq.read_table(path) for path in sorted((folder / f"{day}").glob("*.parquet"))]
    return Counter(tuple(row.values()) for table in tables for row in table.to_pylist())


def _expected(events: Iterable[Sent], day: date) -> Counter[tuple[Any, ...]]:
    return Counter(one.exported for one in events if one.at.date() == day)


def _model(folder: Path, cache: Path) -> Model:
    registry = Registry(FileStore(folder))
    current = registry.current()
    assert current
    return read(registry.fetch(current[0], cache))


def _seen(model: Model) -> set[tuple[str, str]]:
    videos, users = model.videos.ids(np.arange(len(model.videos))), model.users.ids(np.arange(len(model.users)))
    return {(user, videos[row]) for number, user in enumerate(users) for row in model.seen[number].tolist()}


def _learns(model: Model, events: Sequence[Sent]) -> None:
    """Check that a model is of these events and no other."""
    assert set(model.users.ids(np.arange(len(model.users)))) == {one.user for one in events}
    assert set(model.videos.ids(np.arange(len(model.videos)))) == {one.video for one in events}
    assert _seen(model) == {(one.user, one.video) for one in events}
    assert model.manifest.interaction_count == len({one.learnt for one in events})


@pytest.mark.timeout(180)
async def test_recorded_is_exported_is_trained_on(postgres_server: Postgres, tmp_path: Path) -> None:
    """At each stage the same events: repeats once, late ones by a second export, erased users never again."""
    rng = random.Random(7)
    database = postgres_server.create_database(f"chain_{uuid4().hex}")
    exports = tmp_path / "exports"
    env = {
        "DATABASE_URL": database,
        "INTERACTIONS_URL": exports.as_uri(),
        "MODEL_STORE_URL": (tmp_path / "models").as_uri(),
        "RETRAIN_WORK_DIR": str(tmp_path / "work"),
        "RETRAIN_FACTORS": "8",
        "RETRAIN_EPOCHS": "3",
        "RETRAIN_THREADS": "1",
    }
    events = _feed(rng)
    async with running_ingestion(database, None) as running:
        assert await _stream(running, events) == {pb.ACKNOWLEDGEMENT_STATUS_ACCEPTED: len(events)}
        again = rng.sample(events, 100)
        assert await _stream(running, again) == {pb.ACKNOWLEDGEMENT_STATUS_DUPLICATE: 100}
        rows = await running.rows("SELECT event_id::text FROM user_interactions")
        assert Counter(row[0] for row in rows) == Counter(one.event_id for one in events)

        for day in _days():
            done = await _program("retrain", "export", "--date", f"{day}", env=env)
            assert done.startswith(f"Exported {_expected(events, day).total():,} interactions")
            assert _exported(exports, day) == _expected(events, day)

        late = [_event(rng, f"user-{n}", "video-late", "INTERACTION_TYPE_LIKE", _days()[1]) for n in range(5)]
        assert await _stream(running, late) == {pb.ACKNOWLEDGEMENT_STATUS_ACCEPTED: len(late)}
        events += late
    files = {path: path.read_bytes() for path in exports.rglob("*.parquet")}
    for day in _days():
        await _program("retrain", "export", "--date", f"{day}", env=env)
        assert _exported(exports, day) == _expected(events, day)
    changed = {path.parent.name for path, content in files.items() if path.read_bytes() != content}
    assert changed == {f"{_days()[1]}"}

    await _program("retrain", "run", "--again", "--force", env=env)
    _learns(_model(tmp_path / "models", tmp_path / "cache"), events)

    await _program("bridge", "erase", "--user", ERASED, env=env, status=1)  # without Kafka tombstones have to wait
    await _program("retrain", "export", env=env)
    kept = [one for one in events if one.user != ERASED]
    assert _exported(exports, _days()[-1]) == _expected(kept, _days()[-1])
    assert _exported(exports, _days()[0]) == _expected(events, _days()[0])
    await _program("retrain", "run", "--force", env=env)
    _learns(_model(tmp_path / "models", tmp_path / "cache"), kept)
