"""Measures what callers of ingestion see while Kafka, Postgres or both are away, and how soon the backlog is settled.

Live traffic at OUTAGE_RATE a second, open loop, of which the middle OUTAGE_SECONDS are the outage.
"""

import asyncio
import time
from collections.abc import Callable
from uuid import uuid4

import psycopg
from grpc import aio

from benchmarks import knob
from benchmarks.ingestion.stack import Peers, drained, event, running_peers
from benchmarks.machine import MEBIBYTE, resident_bytes
from benchmarks.open_loop import drive
from benchmarks.report import Row
from deploy.local.child_process import Child
from videowindow.feed.v1 import interaction_pb2 as pb
from videowindow.feed.v1.interaction_pb2_grpc import InteractionServiceStub

RATE = knob.number("OUTAGE_RATE", 300.0)
SECONDS = knob.number("OUTAGE_SECONDS", 15.0)
SETTLE_S = 60.0
Steps = list[Callable[[], object]]


def run() -> dict[str, list[Row]]:
    """Return the tables."""
    with running_peers() as peers:
        return {f"Outages of {SECONDS:.0f} s, {peers.title}": asyncio.run(_measure(peers))}


async def _measure(peers: Peers) -> list[Row]:
    def kafka() -> Child:
        return _child(peers.kafka.child)

    def postgres() -> Child:
        return _child(peers.postgres.child)

    outages: list[tuple[str, Steps, Steps]] = [
        ("none", [], []),
        ("Kafka hangs", [lambda: kafka().suspend()], [lambda: kafka().resume()]),
        ("Postgres hangs", [lambda: postgres().suspend()], [lambda: postgres().resume()]),
        ("Postgres killed", [lambda: postgres().kill()], [peers.postgres.start]),
        (
            "Kafka and Postgres hang",
            [lambda: kafka().suspend(), lambda: postgres().suspend()],
            [lambda: postgres().resume(), lambda: kafka().resume()],
        ),
    ]
    async with aio.insecure_channel(peers.bridge.address) as channel:
        await _load(peers, channel, "warm-up", [], [])
        return [await _load(peers, channel, *outage) for outage in outages]


def _child(child: Child | None) -> Child:
    """Return the present process of a server: a killed one was replaced."""
    if child is None:
        raise RuntimeError("the server was not started")
    return child


async def _load(peers: Peers, channel: aio.Channel, name: str, breaks: Steps, heals: Steps) -> Row:
    stub = InteractionServiceStub(channel)
    acknowledged: set[str] = set()

    async def call(number: int) -> str:
        one = event(number)
        one.event_id = str(uuid4())
        try:
            await stub.RecordInteraction(pb.RecordInteractionRequest(interaction=one), timeout=5)
        except aio.AioRpcError as error:
            return error.code().name
        acknowledged.add(one.event_id)
        return "OK"

    for step in breaks:
        step()
    load = await drive(call, rate=RATE, seconds=SECONDS)
    begin = time.monotonic()
    for step in heals:
        step()
    missing = await _settle(peers, acknowledged)
    return {
        "outage": name,
        **load.summary(),
        "acknowledged": len(acknowledged),
        "lost": missing,
        "settled after s": round(time.monotonic() - begin, 1),
        "bridge MiB": round(resident_bytes(peers.pid) / MEBIBYTE),
    }


async def _settle(peers: Peers, acknowledged: set[str]) -> int:
    """Return the number of acknowledged events missing in Postgres once outbox and backfill are done."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        missing = await asyncio.to_thread(_missing, peers, acknowledged)
        if not missing or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.25)
    await drained(peers, timeout_s=SETTLE_S)
    return missing


def _missing(peers: Peers, acknowledged: set[str]) -> int:
    with psycopg.connect(peers.database) as connection:
        row = connection.execute(
            "SELECT count(*) FROM unnest(%s::uuid[]) AS sent (id) WHERE NOT EXISTS"
            " (SELECT FROM user_interactions WHERE event_id = sent.id)",
            [[*acknowledged]],
        ).fetchone()
    return int(row[0]) if row else 0
