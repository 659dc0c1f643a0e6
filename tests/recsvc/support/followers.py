"""Followers in this process and in ones of their own, the machine that they work on, and what they are sent."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from confluent_kafka import Producer

from modelstore.registry import Registry
from recsvc.follower.program import Follower
from recsvc.live_state.status import State, read_status
from recsvc.live_state.store import LiveStore
from recsvc.local_files.folders import LIVE_STATE
from recsvc.local_files.model_cache import ModelCache
from servicekit.storage.object_store import FileStore
from servicekit.telemetry.metrics import Metric, NoMetrics
from tests.recsvc.support.models import publish, random_model
from tests.support.polling import wait_for

INTERACTIONS = "feed.interactions.v1"
UPDATES = "recsvc.profile-updates.v1"
Header = tuple[str, str | bytes | None]


class CountedMetrics(NoMetrics):
    """Counts by metric, and by metric and tag; gauges keep what they were set to last."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.gauges: dict[str, float] = {}

    def count(self, metric: Metric, value: int = 1, *, tags: list[str] | None = None) -> None:
        for name in (str(metric), *(f"{metric} {tag}" for tag in tags or ())):
            self.counts[name] = self.counts.get(name, 0) + value

    def gauge(self, metric: Metric, value: float, *, tags: list[str] | None = None) -> None:
        self.gauges[" ".join([metric, *(tags or ())])] = value


def machine(folder: Path, *, data_until: datetime | None = None) -> Path:
    """Publish a model and make it the one that was live last on this machine; return the cache."""
    model = random_model(3, version="3")
    if data_until:
        manifest = model.manifest.model_copy(update={"data_until": data_until})
        model = type(model)(**{name: getattr(model, name) for name in model.__slots__} | {"manifest": manifest})
    pointer = publish(folder / "store", model)
    assert pointer
    copies = ModelCache(Registry(FileStore(folder / "store")), folder / "cache")
    copies.download(pointer)
    copies.remember(pointer)
    return folder / "cache"


@contextmanager
def following(
    folder: Path,
    client: str | Mapping[str, Any] | None,
    metrics: NoMetrics | None = None,
    *,
    session: str = "",
    list_s: float = 1.0,
) -> Iterator[Follower]:
    """Run a follower in this process, on the machine of a folder."""
    kafka = {"bootstrap.servers": client} if isinstance(client, str) else client
    follower = Follower(
        FileStore(folder / "store"),
        folder / "cache",
        metrics or NoMetrics(),
        session=session or str(uuid4()),
        kafka=kafka,
        list_s=list_s,
    )
    stopping = threading.Event()
    thread = threading.Thread(target=follower.run, args=(stopping,))
    thread.start()
    try:
        yield follower
    finally:
        stopping.set()
        thread.join(60)
        assert not thread.is_alive()


def store_of(folder: Path) -> LiveStore:
    """Return the store of a machine that is with Kafka."""
    return LiveStore(folder / "cache" / LIVE_STATE, is_synced=False)


def videos_of(store: LiveStore, user_id: str) -> list[str]:
    """Return the videos of a user's interactions."""
    profile = store.known(user_id).profile
    return [] if profile is None else [one.video_id for one in profile]


def follows(folder: Path) -> bool:
    """Return whether the machine's store has all that its brokers have."""
    status = read_status(folder / "cache" / LIVE_STATE)
    return bool(status and status.state is State.FOLLOWING)


def counted(store: LiveStore) -> float:
    """Return what all interactions say for all videos."""
    return sum(sum(store.counts(hour)[1]) for hour in store.hours())


def now_ms() -> int:
    return round(datetime.now(UTC).timestamp() * 1000)


def iso(at_ms: int) -> str:
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def done(user_id: str, video_id: str, kind: str = "like", *, at_ms: int | None = None) -> bytes:
    """Return the value of an interaction's message."""
    moment = iso(now_ms() if at_ms is None else at_ms)
    fields = {"userId": user_id, "videoId": video_id, "interactionType": kind, "watchTime": 0, "timestamp": moment}
    return json.dumps(fields).encode()


def told(*video_ids: str, schema: int = 1, **changes: Any) -> bytes:
    """Return the value of an update's message."""
    fields = {"interactionType": "like", "watchTime": 0, "timestamp": iso(now_ms())} | changes
    items = [{"videoId": one, **fields} for one in video_ids]
    return json.dumps({"schema": schema, "toldAt": iso(now_ms()), "interactions": items}).encode()


def send(
    bootstrap: str,
    *values: bytes | None,
    key: str | bytes,
    topic: str = INTERACTIONS,
    at_ms: int | None = None,
    headers: Sequence[Header] | None = None,
) -> None:
    """Put messages into a topic, each with an event id of its own where no headers are given."""
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0, "message.max.bytes": 4_000_000})
    for value in values:
        own: list[Header] = [("event-id", str(uuid4()).encode())] if headers is None else list(headers)
        producer.produce(topic, key=key, value=value, timestamp=now_ms() if at_ms is None else at_ms, headers=own)
    assert producer.flush(20) == 0


def until_forgotten(store: LiveStore, user_id: str, at_ms: int) -> None:
    """Wait until nothing is known of a user, who is forgotten up to a time."""
    wait_for(lambda: store.known(user_id) == (None, at_ms), what=f"{user_id} forgotten")


def until_known(store: LiveStore, user_id: str, video_id: str) -> None:
    """Wait until the store knows of an interaction."""
    wait_for(lambda: video_id in videos_of(store, user_id), what=f"{video_id} of {user_id}")
