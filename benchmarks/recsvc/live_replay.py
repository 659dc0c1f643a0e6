"""Measures how fast the follower copies a day of interactions from Kafka to the store, and how long pages take then.

LIVE_REPLAY_INTERACTIONS of LIVE_REPLAY_USERS users (by default 500,000 of 50,000; a day is 10,000,000 of 1,000,000) are
put into a broker. Then the follower replays them alone: its processor time gives the rate on one core. Then recsvc as a
whole replays them once more under LIVE_REPLAY_PAGES pages a second, open loop. The same pages come once more when all
is read, beside a consumer that takes as many messages a second from the broker and discards them.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from grpc import aio

from benchmarks import knob
from benchmarks.feed.model import publish_random_model
from benchmarks.machine import MEBIBYTE
from benchmarks.open_loop import Load, drive, together
from benchmarks.report import Row
from deploy.local.kafka.choice import choose_kafka
from deploy.local.program import Service
from modelstore.registry import Registry
from recsvc.live_state.status import State, read_status
from recsvc.live_state.store import LiveStore
from recsvc.local_files.folders import LIVE_STATE
from recsvc.local_files.model_cache import ModelCache
from servicekit.inputs.numbers import read_number
from servicekit.process.ports import free_port
from servicekit.storage.object_store import FileStore
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb
from videowindow.lightfm.v2025_9.lightfm_recommendation_pb2_grpc import RecommendationServiceStub

INTERACTIONS = knob.whole("LIVE_REPLAY_INTERACTIONS", 500_000)
USERS = knob.whole("LIVE_REPLAY_USERS", 50_000)
PAGES = knob.number("LIVE_REPLAY_PAGES", 50.0)
VIDEOS, DIMENSIONS, PAGE = 20_000, 64, 20
TOPIC = "feed.interactions.v1"
DAY_MS = 86_400_000
TYPES = ("impression", "watch", "watch", "watch", "complete", "like", "skip")
QUIET_S = 30.0
TURN_S = 5.0
LIMIT_S = 7200.0
PENDING = 100_000
"""Messages that wait in the producer at most."""


@dataclass(slots=True)
class Samples:
    """Memory and processor time of a process, sampled over time.

    Attributes:
        pid: Its id.
    """

    pid: int
    resident: list[int] = field(default_factory=list)

    def look(self) -> None:
        """Add a sample of the process as it is now."""
        self.resident.append(_own_bytes(self.pid))

    def at(self, share: float) -> float:
        """Return the MiB that the process held after a share of the time."""
        return round(self.resident[round(share * (len(self.resident) - 1))] / MEBIBYTE, 1)


def run() -> dict[str, list[Row]]:
    """Measure, and return the tables of the results."""
    choice = choose_kafka()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-replay-")))
        publish_random_model(folder / "models", "1", users=5_000, videos=VIDEOS, dimensions=DIMENSIONS)
        kafka = choice.over(folder / "kafka")
        stack.callback(kafka.stop)
        bootstrap = kafka.start()
        _produce(bootstrap)
        alone = _replay_alone(folder, bootstrap)
        pages = asyncio.run(_replay_beside_pages(folder, bootstrap))
    title = f"{INTERACTIONS:,} interactions of {USERS:,} users, {choice.title}"
    return {title: [alone], f"{PAGES:.0f} pages/s, one worker, {title}": pages}


def _produce(bootstrap: str) -> None:
    """Put the interactions of a day into the topic."""
    producer = Producer(
        {"bootstrap.servers": bootstrap, "linger.ms": 50, "compression.type": "snappy", "batch.num.messages": 10_000}
    )
    random, begin_ms = Random(7), time.time_ns() // 1_000_000 - DAY_MS
    for number in range(INTERACTIONS):
        at_ms = begin_ms + number * DAY_MS // INTERACTIONS
        user = f"user-{random.randrange(USERS)}"
        moment = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        value = json.dumps(
            {
                "userId": user,
                "videoId": f"v{int(VIDEOS * random.random() ** 3)}",
                "interactionType": TYPES[number % len(TYPES)],
                "watchTime": number % 30_000,
                "timestamp": moment,
            },
            separators=(",", ":"),
        )
        headers: list[tuple[str, str | bytes | None]] = [
            ("event-id", f"{number:032x}"),
            ("feed-session-id", f"s{number % 9973}"),
            ("algorithm", "lightfm-warp"),
            ("model-version", "2026-01-01T02"),
            ("recommendation-score", "0.5"),
        ]
        producer.produce(TOPIC, key=user, value=value, timestamp=at_ms, headers=headers)
        if number % 1000 == 0:
            producer.poll(0)
            while len(producer) > PENDING:
                producer.poll(0.05)
    if producer.flush(120):
        raise RuntimeError("the broker did not take the interactions")


def _environment(folder: Path, cache: Path, bootstrap: str) -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG"}} | {
        "MODEL_STORE_URL": (folder / "models").as_uri(),
        "MODEL_CACHE_DIR": str(cache),
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
        "OPENBLAS_NUM_THREADS": "1",
    }


def _replay_alone(folder: Path, bootstrap: str) -> Row:
    cache = folder / "alone"
    registry = Registry(FileStore(folder / "models"))
    copies = ModelCache(registry, cache)
    current = registry.current()
    if not current:
        raise RuntimeError("no model")
    copies.download(current[0])
    copies.remember(current[0])
    with (folder / "follower.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "recsvc.follower"], env=_environment(folder, cache, bootstrap), stderr=log
        )
    try:
        samples, begin = Samples(process.pid), time.monotonic()
        _until_read(cache, samples.look)
        seconds, cpu = time.monotonic() - begin, _cpu_seconds(process.pid)
        store = LiveStore(cache / LIVE_STATE, is_synced=False)
        environment = store.environment()
        used = environment.used_bytes() if environment else 0
    finally:
        process.terminate()
        process.wait(60)
    return {
        "read/s": round(INTERACTIONS / seconds),
        "µs of processor each": round(1e6 * cpu / INTERACTIONS, 1),
        "read/s of one core": round(INTERACTIONS / cpu),
        "MiB at a quarter": samples.at(0.25),
        "MiB at a half": samples.at(0.5),
        "MiB at the end": samples.at(1.0),
        "store MiB": round(used / MEBIBYTE),
        "bytes an interaction": round(used / INTERACTIONS, 1),
    }


def _cpu_seconds(pid: int) -> float:
    """Return the processor time of a process, that of threads which have ended included."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _own_bytes(pid: int) -> int:
    """Return a process's memory without the pages of files, which are the kernel's to take back."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def _until_read(cache: Path, look: Callable[[], None]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not _is_read(cache):
        look()
        if time.monotonic() > deadline:
            raise RuntimeError("not all was read in time")
        time.sleep(0.5)


def _is_read(cache: Path) -> bool:
    status = read_status(cache / LIVE_STATE)
    return bool(status and status.state is State.FOLLOWING and status.lags and not any(status.lags.values()))


async def _replay_beside_pages(folder: Path, bootstrap: str) -> list[Row]:
    cache = folder / "whole"
    with _recsvc(folder, cache, bootstrap) as service:
        worker = Samples(_child(service, "recsvc\0"))
        async with aio.insecure_channel(service.address) as channel:
            stub = RecommendationServiceStub(channel)

            async def call(number: int) -> str:
                request = pb.RecommendRequest(user_id=f"user-{number * 7919 % USERS}", page_size=PAGE)
                await stub.Recommend(request, timeout=5)
                return "OK"

            busy: list[Load] = []
            begin = time.monotonic()
            while not busy or not _is_read(cache):
                worker.look()
                busy.append(await drive(call, rate=PAGES, seconds=TURN_S, seed=len(busy)))
            seconds = time.monotonic() - begin
            worker.look()
            with _discarding(bootstrap, INTERACTIONS / seconds):
                idle = await drive(call, rate=PAGES, seconds=QUIET_S)
            worker.look()
    replaying = together(busy)
    return [
        {"load": "pages, replaying", **replaying.summary(), "replayed/s": round(INTERACTIONS / seconds)},
        {"load": "pages, idle", **idle.summary()},
        {
            "load": "ratio of p99",
            "p99 ms": round(replaying.percentile(99) / idle.percentile(99), 2),
            "worker MiB first": worker.at(0.0),
            "worker MiB half": worker.at(0.5),
            "worker MiB last": worker.at(1.0),
        },
    ]


@contextmanager
def _discarding(bootstrap: str, rate: float) -> Iterator[None]:
    """Read the topic again and again, at a rate, and discard it, in a process of the lowest priority."""
    process = subprocess.Popen(["nice", "-n", "19", sys.executable, "-m", __name__, bootstrap, str(rate)])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _discard(bootstrap: str, rate: float) -> None:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "discard", "enable.auto.commit": False})
    partitions = list(consumer.list_topics(TOPIC, timeout=20).topics[TOPIC].partitions)
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        consumer.assign([TopicPartition(TOPIC, number, OFFSET_BEGINNING) for number in partitions])
        taken, begin = 0, time.monotonic()
        while found := consumer.consume(1000, 1.0):
            taken += len(found)
            time.sleep(max(0.0, begin + taken / rate - time.monotonic()))


@contextmanager
def _recsvc(folder: Path, cache: Path, bootstrap: str) -> Iterator[Service]:
    address = f"127.0.0.1:{free_port()}"
    environment = _environment(folder, cache, bootstrap) | {
        "RECSVC_LISTEN": address,
        "RECSVC_WORKERS": "1",
        "RECSVC_PRECOMPUTED_USERS": "0",
    }
    service = Service("recsvc", address, environment, folder / "recsvc.log")
    service.start()
    try:
        yield service
    finally:
        service.stop()


def _child(service: Service, name: str) -> int:
    """Return the child of the supervisor whose command line has a part of this name."""
    pid = service.child.pid if service.child else 0
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    return next(
        int(child) for child in children if f"\0{name}" in Path(f"/proc/{child}/cmdline").read_text(encoding="utf-8")
    )


if __name__ == "__main__":
    _discard(sys.argv[1], read_number(sys.argv[2]))
