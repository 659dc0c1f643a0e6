"""Measures how fast a backlog drains after an outage of Kafka, beside live traffic at the same rate.

By default five minutes at 500 events/s are put into the outbox, as an outage would have left them (BACKLOG_EVENTS;
1800000 is an hour), of BACKLOG_USERS users, while live events of the same users come at BACKLOG_RATE a second.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from uuid import uuid4

import psycopg
from grpc import aio

from benchmarks import knob
from benchmarks.ingestion.stack import Peers, running_peers
from benchmarks.machine import MEBIBYTE, cpu_seconds, resident_bytes
from benchmarks.open_loop import drive, together
from benchmarks.report import Row
from videowindow.feed.v1 import interaction_pb2 as pb
from videowindow.feed.v1.interaction_pb2_grpc import InteractionServiceStub

EVENTS = knob.whole("BACKLOG_EVENTS", 150_000)
USERS = knob.whole("BACKLOG_USERS", 20_000)
RATE = knob.number("BACKLOG_RATE", 500.0)
QUIET_S = 15.0
ROUND_S = 5.0
MAX_S = 1800.0
LEFT_BEHIND = """
INSERT INTO interactions_outbox (id, aggregatetype, aggregateid, type, payload, headers, created_at)
SELECT id, 'feed.interactions.v1', 'user-' || n %% %s, 'watch',
    json_build_object('userId', 'user-' || n %% %s, 'videoId', 'v' || n %% 977, 'interactionType', 'watch',
        'watchTime', n, 'timestamp', '2026-01-01T00:00:00.000Z'),
    json_build_object('event-id', id, 'feed-session-id', 's' || n, 'algorithm', 'lightfm-warp',
        'model-version', '2026-01-01T02', 'recommendation-score', '0.5', 'backlog', '1'),
    now() - interval '1 hour'
FROM (SELECT n, gen_random_uuid() AS id FROM generate_series(1, %s) AS n) AS events
"""
LEFT = "SELECT count(*) FROM (SELECT FROM interactions_outbox WHERE created_at < now() - interval '30 minutes' LIMIT 1)"


@dataclass(slots=True)
class Memory:
    """The bridge's resident memory over time."""

    pid: int
    most: int = 0
    first: int = field(init=False)

    def __post_init__(self) -> None:
        self.first = self.most = resident_bytes(self.pid)

    def look(self) -> None:
        """Record the resident memory of now."""
        self.most = max(self.most, resident_bytes(self.pid))


def run() -> dict[str, list[Row]]:
    """Return the tables."""
    with running_peers() as peers:
        return {f"A backlog of {EVENTS:,} events, {peers.title}": asyncio.run(_measure(peers))}


async def _measure(peers: Peers) -> list[Row]:
    async with aio.insecure_channel(peers.bridge.address) as channel:
        call = _recording(channel)
        await drive(call, rate=RATE, seconds=ROUND_S)
        quiet = await drive(call, rate=RATE, seconds=QUIET_S)
        with psycopg.connect(peers.database) as connection:
            connection.execute(LEFT_BEHIND, [USERS, USERS, EVENTS])
        memory, cpu = Memory(peers.pid), cpu_seconds(peers.pid)
        draining = asyncio.create_task(_drain(peers, memory))
        busy = [await drive(call, rate=RATE, seconds=ROUND_S)]
        while not draining.done():
            busy.append(await drive(call, rate=RATE, seconds=ROUND_S, seed=len(busy)))
        seconds = await draining
        cpu = cpu_seconds(peers.pid) - cpu
        after = await drive(call, rate=RATE, seconds=QUIET_S)
    rate = EVENTS / seconds
    return [
        {"load": "live traffic, no backlog", **quiet.summary()},
        {"load": "live traffic, draining", **together(busy).summary()},
        {"load": "live traffic, afterwards", **after.summary()},
        {
            "load": "backlog",
            "drained after s": round(seconds, 1),
            "drained/s": round(rate),
            "times arrival rate": round(rate / RATE, 1),
            "bridge MiB before": round(memory.first / MEBIBYTE),
            "bridge MiB at most": round(memory.most / MEBIBYTE),
            "bridge cores": round(cpu / (ROUND_S * len(busy)), 2),
        },
    ]


def _recording(channel: aio.Channel) -> Callable[[int], Awaitable[str]]:
    stub = InteractionServiceStub(channel)

    async def call(number: int) -> str:
        event = pb.Interaction(
            event_id=str(uuid4()),
            user_id=f"user-{number * 7919 % USERS}",
            video_id=f"v{number % 977}",
            interaction_type=pb.INTERACTION_TYPE_WATCH,
            watch_time=number,
        )
        await stub.RecordInteraction(pb.RecordInteractionRequest(interaction=event), timeout=5)
        return "OK"

    return call


async def _drain(peers: Peers, memory: Memory) -> float:
    begin = time.monotonic()
    with psycopg.connect(peers.database, autocommit=True) as connection:
        while await asyncio.to_thread(_left, connection):
            memory.look()
            if time.monotonic() - begin > MAX_S:
                return float("inf")
            await asyncio.sleep(0.25)
    return time.monotonic() - begin


def _left(connection: "psycopg.Connection[tuple[int]]") -> int:
    row = connection.execute(LEFT).fetchone()
    return row[0] if row else 0
