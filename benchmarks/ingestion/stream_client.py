"""Sends streams of events as fast as flow control allows, and records the bridge's memory meanwhile."""

import asyncio
import sys
import time
from dataclasses import dataclass, field

from grpc import aio

from benchmarks.ingestion.stack import Peers, stream
from benchmarks.machine import MEBIBYTE, cpu_seconds, resident_bytes

STREAMS = 2
LOOK_S = 1.0
TELL_S = 10.0
QUARTERS = 4


@dataclass(slots=True)
class Firehose:
    """One run of streams.

    Attributes:
        peers: What it runs against.
        count: Events to send.
        acknowledged: Events acknowledged so far.
        resident: Bytes of the bridge's resident memory at the start, after each quarter of the events, and at the end.
    """

    peers: Peers
    count: int
    acknowledged: int = 0
    resident: list[int] = field(default_factory=list)
    seconds: float = 0
    cpu_s: float = 0

    async def run(self) -> None:
        """Send all events, and print progress; memory here does not grow with their number."""
        share = self.count // STREAMS
        begin, cpu = time.monotonic(), cpu_seconds(self.peers.pid)
        self.resident.append(resident_bytes(self.peers.pid))
        watching = asyncio.create_task(self._watch())
        # A connection of its own, so that it does not share the flow control of other calls.
        async with aio.insecure_channel(self.peers.bridge.address, options=[("bench.separate", 1)]) as channel:
            await asyncio.gather(*[stream(channel, share, n * share, told=self._count) for n in range(STREAMS)])
        self.seconds, self.cpu_s = time.monotonic() - begin, cpu_seconds(self.peers.pid) - cpu
        watching.cancel()
        self.resident.append(resident_bytes(self.peers.pid))

    def memory(self) -> str:
        """Return the bridge's memory at the start and after each quarter, in MiB."""
        return " ".join(str(round(one / MEBIBYTE)) for one in self.resident)

    def _count(self) -> None:
        self.acknowledged += 1
        if len(self.resident) < QUARTERS and self.acknowledged * QUARTERS >= self.count * len(self.resident):
            self.resident.append(resident_bytes(self.peers.pid))

    async def _watch(self) -> None:
        begin = told = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_S)
            self.peers.dogstatsd.clear()
            now = time.monotonic()
            if now - told >= TELL_S:
                told = now
                resident = resident_bytes(self.peers.pid) / MEBIBYTE
                rate = self.acknowledged / (now - begin)
                sys.stderr.write(
                    f"  {self.acknowledged:,} events, {rate:,.0f}/s, the bridge holds {resident:.0f} MiB\n"
                )
