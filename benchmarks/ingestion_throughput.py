"""Acknowledged interactions a second on one core, and the time from accepting one to Kafka's acknowledgement.

Real Postgres with fsync and Apache Kafka on the same machine; the bridge is kept to one core. INGESTION_EVENTS sets how
many events the firehose sends; memory must not grow with them.
"""

import asyncio
import os
import time

import numpy as np
from grpc import aio

from benchmarks.ingestion_peers import Peers, drained, event, running_peers, stream
from benchmarks.machine import cpu_seconds, resident_bytes
from benchmarks.openloop import drive
from benchmarks.report import Row
from videowindow.feed.v1 import interaction_pb2 as pb
from videowindow.feed.v1.interaction_pb2_grpc import InteractionServiceStub

EVENTS = int(os.environ.get("INGESTION_EVENTS", "40000"))
STREAMS = 2
CALLERS = 64
RATE = 1000.0
SECONDS = 10.0
MEBIBYTE = 1 << 20


def run() -> dict[str, list[Row]]:
    """Return the tables."""
    with running_peers() as peers:
        return {f"Ingestion on one core, {peers.title}": asyncio.run(_measure(peers))}


async def _measure(peers: Peers) -> list[Row]:
    async with aio.insecure_channel(peers.bridge.address) as channel:
        await stream(channel, 2000)
        await drained(peers, timeout_s=30)
        rows = [await _steady(peers, channel), await _unary(peers, channel)]
        rows += [await _firehose(peers, EVENTS // 2), await _firehose(peers, EVENTS)]
    return rows


async def _steady(peers: Peers, channel: aio.Channel) -> Row:
    stub = InteractionServiceStub(channel)

    async def call(number: int) -> str:
        await stub.RecordInteraction(pb.RecordInteractionRequest(interaction=event(number)), timeout=5)
        return "OK"

    before = len(_publish_latencies(peers))
    load = await drive(call, rate=RATE, seconds=SECONDS)
    await drained(peers, timeout_s=30)
    await asyncio.sleep(1.5)  # metrics are sent once a second
    latencies = _publish_latencies(peers)[before:]
    return {
        "load": f"single calls, open loop {RATE:.0f}/s",
        "acknowledged/s": round(load.share("OK") * len(load.outcomes) / SECONDS),
        "reply p50 ms": round(load.percentile(50), 1),
        "reply p99 ms": round(load.percentile(99), 1),
        "Kafka ack p50 ms": round(float(np.percentile(latencies, 50)), 1),
        "Kafka ack p95 ms": round(float(np.percentile(latencies, 95)), 1),
    }


def _publish_latencies(peers: Peers) -> list[float]:
    packets = peers.dogstatsd.packets("feed.interactions.publish_latency")
    return [value for packet in packets for value in packet.values]


async def _unary(peers: Peers, channel: aio.Channel) -> Row:
    stub = InteractionServiceStub(channel)
    count = EVENTS // 4

    async def caller(first: int) -> None:
        for number in range(first, count, CALLERS):
            await stub.RecordInteraction(pb.RecordInteractionRequest(interaction=event(number)), timeout=10)

    begin, cpu = time.monotonic(), cpu_seconds(peers.pid)
    await asyncio.gather(*map(caller, range(CALLERS)))
    return _rate(f"single calls, {CALLERS} at once", count, time.monotonic() - begin, cpu_seconds(peers.pid) - cpu)


async def _firehose(peers: Peers, count: int) -> Row:
    share = count // STREAMS
    begin, cpu, memory = time.monotonic(), cpu_seconds(peers.pid), resident_bytes(peers.pid)
    async with aio.insecure_channel(peers.bridge.address, options=[("bench.separate", 1)]) as channel:
        acknowledged = sum(await asyncio.gather(*[stream(channel, share, n * share) for n in range(STREAMS)]))
    row = _rate(
        f"{STREAMS} streams, {count:,} events", acknowledged, time.monotonic() - begin, cpu_seconds(peers.pid) - cpu
    )
    grown = (resident_bytes(peers.pid) - memory) / MEBIBYTE
    lag = await drained(peers, timeout_s=60)
    return {**row, "memory grown MiB": round(grown, 1), "drained after s": round(lag, 1)}


def _rate(name: str, count: int, seconds: float, cpu: float) -> Row:
    return {"load": name, "acknowledged/s": round(count / seconds), "CPU µs each": round(cpu / count * 1e6)}
