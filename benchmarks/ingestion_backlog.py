"""How fast a backlog drains after an outage of Kafka, beside live traffic at the rate that made it.

By default half a minute at 500 events/s is put into the outbox, as an outage would have left it
(BACKLOG_EVENTS; 1800000 is an hour at 500/s), while live events come at BACKLOG_RATE a second.
"""

import asyncio
import os
import time

import psycopg
from grpc import aio

from benchmarks.ingestion_peers import Peers, event, running_peers
from benchmarks.openloop import Load, drive
from benchmarks.report import Row
from videowindow.feed.v1 import interaction_pb2 as pb
from videowindow.feed.v1.interaction_pb2_grpc import InteractionServiceStub

EVENTS = int(os.environ.get("BACKLOG_EVENTS", "15000"))
RATE = float(os.environ.get("BACKLOG_RATE", "200"))
QUIET_S = 6.0
MOST_S = 600.0
LEFT_BEHIND = """
INSERT INTO interactions_outbox (id, aggregatetype, aggregateid, type, payload, headers, created_at)
SELECT id, 'feed.interactions.v1', 'backlog-' || n %% 2000, 'watch',
    json_build_object('userId', 'backlog-' || n %% 2000, 'videoId', 'v' || n, 'interactionType', 'watch',
        'watchTime', n, 'timestamp', '2026-01-01T00:00:00.000Z'),
    json_build_object('event-id', id), now() - interval '1 hour'
FROM (SELECT n, gen_random_uuid() AS id FROM generate_series(1, %s) AS n) AS events
"""


def run() -> dict[str, list[Row]]:
    """Return the tables."""
    with running_peers() as peers:
        return {f"A backlog of {EVENTS:,} events, {peers.title}": asyncio.run(_measure(peers))}


async def _measure(peers: Peers) -> list[Row]:
    async with aio.insecure_channel(peers.bridge.address) as channel:
        quiet = await _live(channel, QUIET_S)
        with psycopg.connect(peers.database) as connection:
            connection.execute(LEFT_BEHIND, [EVENTS])
        draining = asyncio.create_task(_drain(peers))
        busy = await _live(channel, QUIET_S)
        seconds = await draining
    rate = EVENTS / seconds
    drained: Row = {"load": "backlog", "drained after s": round(seconds, 1), "drained/s": round(rate)}
    return [
        {"load": "live traffic, no backlog", **quiet.summary()},
        {"load": "live traffic, draining", **busy.summary()},
        {**drained, "times arrival rate": round(rate / RATE, 1)},
    ]


async def _live(channel: aio.Channel, seconds: float) -> Load:
    stub = InteractionServiceStub(channel)

    async def call(number: int) -> str:
        await stub.RecordInteraction(pb.RecordInteractionRequest(interaction=event(number)), timeout=5)
        return "OK"

    return await drive(call, rate=RATE, seconds=seconds)


async def _drain(peers: Peers) -> float:
    begin = time.monotonic()
    while await asyncio.to_thread(_left, peers):
        if time.monotonic() - begin > MOST_S:
            return float("inf")
        await asyncio.sleep(0.05)
    return time.monotonic() - begin


def _left(peers: Peers) -> int:
    with psycopg.connect(peers.database) as connection:
        row = connection.execute(
            "SELECT count(*) FROM (SELECT FROM interactions_outbox WHERE aggregateid LIKE 'backlog-%' LIMIT 1)"
        ).fetchone()
    return int(row[0]) if row else 0
