"""Measures the feed under faults: answered pages, their latency and the personal share (FEED_FAULTS_S seconds a row).

Open-loop load on a bridge process with real recsvc, Postgres and Kafka, all on this machine. A fault begins before a
row's first call and lasts to its end, except where the row says otherwise; between rows the bridge recovers.
"""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from uuid import uuid4

from grpc import aio

from benchmarks import knob
from benchmarks.feed.stack import FaultProxy, Peers, Users, running_peers
from benchmarks.machine import resident_bytes
from benchmarks.open_loop import Load, drive
from benchmarks.report import Row
from deploy.local.child_process import Child
from deploy.local.kafka.choice import Kafka
from deploy.local.postgres import Postgres
from deploy.local.program import Service
from videowindow.feed.v1 import interaction_pb2 as ipb
from videowindow.feed.v1.interaction_pb2_grpc import InteractionServiceStub

SECONDS = knob.number("FEED_FAULTS_S", 2.5)
RATE = knob.number("FEED_FAULTS_RATE", 200.0)
CODES = ("UNAVAILABLE", "ABORTED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN")
SERVICE_MS = 5.0
MEBIBYTE = 1 << 20

Act = Callable[[], None]


@dataclass
class Matrix:
    """Runs rows one after the other."""

    rows: list[Row] = field(default_factory=list)

    async def row(
        self,
        name: str,
        bridge: Service,
        *,
        before: Act = lambda: None,
        during: Callable[[], Awaitable[None]] | None = None,
        after: Act = lambda: None,
        rate: float = RATE,
        proxy: FaultProxy | None = None,
    ) -> None:
        """Measure one fault."""
        users = Users(bridge.address)
        await users.until_personal()
        resident = resident_bytes(_child(bridge).pid)
        if proxy:
            await asyncio.to_thread(proxy.calls)
        await asyncio.to_thread(before)
        beside = asyncio.ensure_future(during()) if during else None
        try:
            load = await drive(users.page, rate=rate, seconds=SECONDS)
            if beside:
                await beside
        finally:
            await asyncio.to_thread(after)
        row = _summary(name, load, users)
        row["RSS MB"] = f"{resident / MEBIBYTE:.0f} → {resident_bytes(_child(bridge).pid) / MEBIBYTE:.0f}"
        if proxy:
            row["attempts/page"] = round(await asyncio.to_thread(proxy.calls) / len(load.outcomes), 2)
        self.rows.append(row)
        print(row, flush=True)
        await users.channel.close()


def _summary(name: str, load: Load, users: Users) -> dict[str, float | str]:
    answered = load.share("personal") + load.share("trending")
    errors = {outcome: count for outcome, count in load.counts().items() if outcome not in {"personal", "trending"}}
    return {
        "fault": name,
        "rate/s": round(load.rate),
        "p50 ms": round(load.percentile(50), 1),
        "p99 ms": round(load.percentile(99), 1),
        "max ms": round(load.percentile(100), 1),
        "answered %": round(100 * answered, 2),
        "personal %": round(100 * load.share("personal"), 1),
        "why trending": " ".join(f"{reason} {count}" for reason, count in sorted(users.reasons.items())),
        "errors": " ".join(f"{outcome} {count}" for outcome, count in errors.items()) or "0",
        "driver lag ms": round(load.worst_lag_ms, 1),
    }


def _child(service: Service | Postgres | Kafka) -> Child:
    if service.child is None:
        raise RuntimeError("it does not run")
    return service.child


def run() -> dict[str, list[Row]]:
    """Run the matrix."""
    with running_peers() as peers, ExitStack() as stack:
        matrix = Matrix()
        asyncio.run(_measure(peers, stack, matrix))
        return {"The feed under faults": matrix.rows}


async def _measure(peers: Peers, stack: ExitStack, matrix: Matrix) -> None:
    recsvc = peers.recsvc("recsvc")
    bridge = peers.bridge("bridge", recsvc.address)
    await _own_faults(peers, recsvc, bridge, matrix)
    await _stores(peers, bridge, matrix)
    bridge.stop()
    await _sinks(peers, recsvc, stack, matrix)
    await _replicas(peers, recsvc, matrix)
    await _proxied(peers, recsvc, stack, matrix)


async def _own_faults(peers: Peers, recsvc: Service, bridge: Service, matrix: Matrix) -> None:
    await matrix.row("none", bridge)
    await matrix.row("recsvc killed", bridge, before=lambda: _child(recsvc).kill(), after=recsvc.start)
    stopped = _child(recsvc)
    await matrix.row("recsvc stopped (SIGSTOP)", bridge, before=stopped.suspend, after=stopped.resume)

    async def swap() -> None:
        await asyncio.sleep(SECONDS / 4)
        await asyncio.to_thread(peers.publish, "20250903-1", 2)

    await matrix.row("model swap", bridge, during=swap)


async def _stores(peers: Peers, bridge: Service, matrix: Matrix) -> None:
    """Suspend Postgres and Kafka while interactions keep coming."""
    for name, peer in (("Postgres", peers.postgres), ("Kafka", peers.kafka)):
        child = _child(peer)
        writer = _Writer(bridge.address)
        await matrix.row(
            f"{name} stopped, with interactions", bridge, before=child.suspend, during=writer.write, after=child.resume
        )


class _Writer:
    """Sends interactions, and ignores their outcome."""

    def __init__(self, address: str) -> None:
        self._channel = aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self._record = InteractionServiceStub(self._channel).RecordInteraction

    async def write(self) -> None:
        async def one(_: int) -> str:
            kind = ipb.INTERACTION_TYPE_WATCH
            event = ipb.Interaction(event_id=str(uuid4()), user_id="u1", video_id="v1", interaction_type=kind)
            with suppress(aio.AioRpcError):
                await self._record(ipb.RecordInteractionRequest(interaction=event), timeout=1)
            return "sent"

        await drive(one, rate=50, seconds=SECONDS)
        await self._channel.close()


async def _sinks(peers: Peers, recsvc: Service, stack: ExitStack, matrix: Matrix) -> None:
    """Listen as Segment and Datadog do, and never read what arrives."""
    segment = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1))
    agent = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    agent.bind(("127.0.0.1", 0))
    bridge = peers.bridge(
        "bridge-sinks",
        recsvc.address,
        SEGMENT_WRITE_KEY="key",
        SEGMENT_URL=f"http://127.0.0.1:{segment.getsockname()[1]}/v1/batch",
        DD_AGENT_HOST="127.0.0.1",
        DD_DOGSTATSD_PORT=str(agent.getsockname()[1]),
    )
    await matrix.row("Segment and Datadog black-holed", bridge)
    bridge.stop()


async def _replicas(peers: Peers, recsvc: Service, matrix: Matrix) -> None:
    second = peers.recsvc("recsvc-2")
    bridge = peers.bridge("bridge-2", f"{recsvc.address},{second.address}")

    async def roll() -> None:
        for one in (recsvc, second):
            await asyncio.to_thread(one.stop)
            await _start(one)

    await matrix.row("rolling restart of 2 replicas", bridge, during=roll)
    child = _child(second)
    await matrix.row("1 of 2 replicas stopped", bridge, before=child.suspend, after=child.resume)
    await matrix.row("1 of 2 replicas killed", bridge, before=child.kill)
    bridge.stop()


async def _start(service: Service) -> None:
    """Start a service outside the event loop, from the thread whose end also ends the service."""
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def start() -> None:
        service.start()
        loop.call_soon_threadsafe(started.set)
        _FOREVER.wait()

    threading.Thread(target=start, daemon=True).start()
    await started.wait()


_FOREVER = threading.Event()


async def _proxied(peers: Peers, recsvc: Service, stack: ExitStack, matrix: Matrix) -> None:
    proxy = FaultProxy(recsvc.address)
    stack.callback(proxy.close)
    bridge = peers.bridge("bridge-proxied", proxy.address)

    async def row(name: str, rate: float = RATE, **faults: object) -> None:
        await matrix.row(name, bridge, before=lambda: proxy.tell(**faults), after=proxy.tell, rate=rate, proxy=proxy)

    await row("none, by the fault proxy")
    for extra in (50, 100, 200):
        await row(f"+{extra} ms", delay_ms=extra)
    for code in CODES:
        for share in (0.1, 0.5, 1.0):
            await row(f"{code} {share:.0%}", code=code, share=share)
    await row("connections reset in mid-reply, 5 %", reset_share=0.05)
    capacity = 1000 / SERVICE_MS
    await row(f"overload 3x ({capacity:.0f}/s served)", rate=3 * capacity, service_ms=SERVICE_MS)
