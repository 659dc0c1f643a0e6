"""Runs what the ingestion benchmarks need: Postgres with fsync, the best Kafka available, a bridge on one core."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from grpc import aio

from deploy.local.kafka.choice import Kafka, choose_kafka
from deploy.local.postgres import Postgres
from deploy.local.program import Service
from servicekit.process.ports import free_port
from tests.support.dogstatsd import DogStatsdServer
from videowindow.feed.v1 import interaction_pb2 as pb
from videowindow.feed.v1.interaction_pb2_grpc import InteractionServiceStub

USERS = 2_000


@dataclass(frozen=True, slots=True)
class Peers:
    """The running peers."""

    postgres: Postgres
    kafka: Kafka
    bridge: Service
    dogstatsd: DogStatsdServer
    database: str
    title: str

    @property
    def pid(self) -> int:
        """The bridge's process."""
        return self.bridge.child.pid if self.bridge.child else 0

    def depth(self) -> int:
        """Return how many messages wait in the outbox."""
        with psycopg.connect(self.database) as connection:
            row = connection.execute("SELECT count(*) FROM interactions_outbox").fetchone()
        return int(row[0]) if row else 0


@contextmanager
def running_peers() -> Iterator[Peers]:
    """Run everything until the block ends; the bridge is kept to one core, the rest has the others."""
    choice = choose_kafka()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        folder.chmod(0o755)  # Postgres may run as somebody else
        postgres = Postgres(folder / "postgres")
        stack.callback(postgres.stop)
        database = postgres.start()
        kafka = choice.over(folder / "kafka")
        stack.callback(kafka.stop)
        bootstrap = kafka.start()
        dogstatsd = stack.enter_context(DogStatsdServer())
        address = f"127.0.0.1:{free_port()}"
        environment = dict(os.environ) | {
            "BRIDGE_LISTEN": address,
            "LIGHTFM_GRPC_ENDPOINT": "127.0.0.1:1",
            "DATABASE_URL": database,
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "TRENDING_SNAPSHOT_PATH": str(folder / "trending.json"),
            "DD_AGENT_HOST": dogstatsd.host,
            "DD_DOGSTATSD_PORT": str(dogstatsd.port),
        }
        bridge = Service("bridge", address, environment, folder / "bridge.log")
        stack.callback(bridge.stop)
        bridge.start()
        peers = Peers(postgres, kafka, bridge, dogstatsd, database, choice.title)
        for task in Path(f"/proc/{peers.pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {0})
        yield peers


def event(number: int) -> pb.Interaction:
    """Return an interaction like those of a feed."""
    return pb.Interaction(
        event_id=str(uuid4()),
        user_id=f"u{number % USERS}",
        video_id=f"v{number % 977}",
        interaction_type=pb.INTERACTION_TYPE_WATCH,
        watch_time=number % 60_000,
        recommendation=pb.RecommendationContext(
            feed_session_id=f"s{number % USERS}",
            algorithm="lightfm-warp",
            model_version="2026-01-01T02",
            recommendation_score=0.5,
        ),
    )


async def stream(channel: aio.Channel, count: int, start: int = 0, *, told: Callable[[], None] = lambda: None) -> int:
    """Send events over one call as fast as possible; call `told` for each; return the number of acknowledged ones."""
    acknowledged = 0

    async def requests() -> AsyncIterator[pb.StreamInteractionsRequest]:
        for number in range(start, start + count):
            yield pb.StreamInteractionsRequest(interaction=event(number))

    stub: Any = InteractionServiceStub(channel)
    async for reply in stub.StreamInteractions(requests()):
        if not reply.HasField("error"):
            acknowledged += 1
            told()
    return acknowledged


async def drained(peers: Peers, *, timeout_s: float) -> float:
    """Wait until the outbox is empty; return the seconds that took."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    while await asyncio.to_thread(peers.depth):
        if loop.time() - begin > timeout_s:
            return float("inf")
        await asyncio.sleep(0.1)
    return loop.time() - begin
