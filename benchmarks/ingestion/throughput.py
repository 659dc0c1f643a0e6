"""Measures acknowledged interactions a second on one core, and the time from acceptance to Kafka's acknowledgement.

Real Postgres with fsync and Apache Kafka on the same machine; the bridge is kept to one core. Beside them an empty
call of the same kind of server. INGESTION_EVENTS sets how many events the firehose sends (10,000,000 need an hour and
20 GB for Postgres and Kafka); memory must not grow with them.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from grpc import aio

from benchmarks import knob
from benchmarks.ingestion.stack import Peers, drained, event, running_peers, stream
from benchmarks.ingestion.stream_client import STREAMS, Firehose
from benchmarks.machine import cpu_seconds
from benchmarks.open_loop import drive
from benchmarks.report import Row
from deploy.local.program import ROOT
from videowindow.feed.v1 import interaction_pb2 as pb
from videowindow.feed.v1.interaction_pb2_grpc import InteractionServiceStub

EVENTS = knob.whole("INGESTION_EVENTS", 40_000)
CALLS = 10_000
CALLERS = 64
RATE = 1000.0
SECONDS = 10.0
WARM_UP_S = 2.0


def run() -> dict[str, list[Row]]:
    """Return the tables."""
    with running_peers() as peers, _empty_bridge() as empty:
        return {f"Ingestion on one core, {peers.title}": asyncio.run(_measure(peers, empty))}


@contextmanager
def _empty_bridge() -> Iterator[tuple[str, int]]:
    """Run the least server until the block ends; return its address and process."""
    command = [sys.executable, "-m", "benchmarks.ingestion.empty_bridge"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = process.stdout.readline().strip() if process.stdout else ""
            yield f"127.0.0.1:{port}", process.pid
        finally:
            process.kill()


async def _measure(peers: Peers, empty: tuple[str, int]) -> list[Row]:
    async with aio.insecure_channel(peers.bridge.address) as channel:
        await stream(channel, 2000)
        await drained(peers, timeout_s=30)
        rows = [await _steady(peers, channel)]
        cost, single = await _unary(channel, peers.pid, "single calls")
    async with aio.insecure_channel(empty[0]) as channel:
        least, row = await _unary(channel, empty[1], "the same, to an empty server")
    rows += [{**single, "x empty": round(cost / least, 2)}, row]
    await drained(peers, timeout_s=30)
    return [*rows, await _firehose(peers)]


async def _steady(peers: Peers, channel: aio.Channel) -> Row:
    stub = InteractionServiceStub(channel)

    async def call(number: int) -> str:
        await stub.RecordInteraction(pb.RecordInteractionRequest(interaction=event(number)), timeout=5)
        return "OK"

    await drive(call, rate=RATE, seconds=WARM_UP_S)
    await _settled(peers)
    before, cpu = len(_publish_latencies(peers)), cpu_seconds(peers.pid)
    load = await drive(call, rate=RATE, seconds=SECONDS)
    spent = cpu_seconds(peers.pid) - cpu
    await _settled(peers)
    latencies = _publish_latencies(peers)[before:]
    return {
        "load": f"single calls, open loop {RATE:.0f}/s",
        "acknowledged/s": round(load.share("OK") * len(load.outcomes) / SECONDS),
        "CPU µs each": round(spent / len(load.outcomes) * 1e6),
        "reply p50 ms": round(load.percentile(50), 1),
        "reply p99 ms": round(load.percentile(99), 1),
        "driver late by ms": round(load.worst_lag_ms, 1),
        "Kafka ack p50 ms": round(float(np.percentile(latencies, 50)), 1),
        "Kafka ack p95 ms": round(float(np.percentile(latencies, 95)), 1),
    }


async def _settled(peers: Peers) -> None:
    await drained(peers, timeout_s=30)
    await asyncio.sleep(1.5)  # metrics are sent once a second


def _publish_latencies(peers: Peers) -> list[float]:
    packets = peers.dogstatsd.packets("feed.interactions.publish_latency")
    return [value for packet in packets for value in packet.values]


async def _unary(channel: aio.Channel, pid: int, name: str) -> tuple[float, Row]:
    """Return the processor seconds of a process for each call, and a row of the table."""
    stub = InteractionServiceStub(channel)

    async def caller(first: int) -> int:
        refused = 0
        for number in range(first, CALLS, CALLERS):
            try:
                await stub.RecordInteraction(pb.RecordInteractionRequest(interaction=event(number)), timeout=10)
            except aio.AioRpcError:
                refused += 1
        return refused

    begin, cpu = time.monotonic(), cpu_seconds(pid)
    refused = sum(await asyncio.gather(*map(caller, range(CALLERS))))
    seconds, spent = time.monotonic() - begin, cpu_seconds(pid) - cpu
    row = _rate(f"{name}, {CALLERS} at once", CALLS - refused, seconds, spent)
    return spent / (CALLS - refused), {**row, "refused": refused}


async def _firehose(peers: Peers) -> Row:
    firehose = Firehose(peers, EVENTS)
    await firehose.run()
    lag = await drained(peers, timeout_s=60)
    name = f"{STREAMS} streams, {EVENTS:,} events"
    row = _rate(name, firehose.acknowledged, firehose.seconds, firehose.cpu_s)
    row = {**row, "refused": EVENTS // STREAMS * STREAMS - firehose.acknowledged}
    return {**row, "memory MiB, by quarter": firehose.memory(), "drained after s": round(lag, 1)}


def _rate(name: str, count: int, seconds: float, cpu: float) -> Row:
    return {"load": name, "acknowledged/s": round(count / seconds), "CPU µs each": round(cpu / count * 1e6)}
