"""Measures the personal share in each second after a stall of recsvc (FEED_STALL_S seconds).

Open-loop load on a bridge process with a real recsvc, on this machine. recsvc stands still (SIGSTOP), is slow in each
page, or stands still again and again; then it is well. A second counts from the instant of that.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks import knob
from benchmarks.feed.stack import Peers, Users, running_peers
from benchmarks.open_loop import drive
from benchmarks.report import Row
from deploy.local.child_process import Child
from deploy.local.program import Service
from servicekit.process.ports import free_port

STALL_S = knob.number("FEED_STALL_S", 3.0)
RATE = knob.number("FEED_STALL_RATE", 100.0)
BEFORE_S = 1.0
AFTER_S = 8.0
SLOW_MS = (60, 130, 200, 1000)
"""What pages take longer: within the deadline, about as long, and longer."""
SHORT_S = 0.2
"""Of short stalls and of the pauses between them."""

Stall = Callable[[], Awaitable[None]]


def run() -> dict[str, list[Row]]:
    """Run all stalls."""
    with running_peers() as peers:
        return {f"Personal pages after a stall of {STALL_S:g} s": asyncio.run(_measure(peers))}


async def _measure(peers: Peers) -> list[Row]:
    slow_file = peers.folder / "slow"
    recsvc = _slowed_recsvc(peers, slow_file)
    bridge = peers.bridge("bridge", recsvc.address)
    child = _child(recsvc)

    async def stand_still() -> None:
        child.suspend()
        await asyncio.sleep(STALL_S)
        child.resume()

    async def stutter() -> None:
        for _ in range(round(STALL_S / SHORT_S / 2)):
            child.suspend()
            await asyncio.sleep(SHORT_S)
            child.resume()
            await asyncio.sleep(SHORT_S)

    def slow(extra_ms: int) -> Stall:
        async def stall() -> None:
            slow_file.write_text(str(extra_ms), encoding="utf-8")
            await asyncio.sleep(STALL_S)
            slow_file.unlink()

        return stall

    stalls = {"stopped": stand_still, "stuttering": stutter} | {f"+{ms} ms a page": slow(ms) for ms in SLOW_MS}
    return [await _row(name, bridge, stall) for name, stall in stalls.items()]


async def _row(name: str, bridge: Service, stall: Stall) -> Row:
    users = Users(bridge.address)
    await users.until_personal()
    begun: dict[int, float] = {}
    ended_at = 0.0

    async def page(number: int) -> str:
        begun[number] = time.monotonic()
        return await users.page(number)

    async def disturb() -> None:
        nonlocal ended_at
        await asyncio.sleep(BEFORE_S)
        await stall()
        ended_at = time.monotonic()

    disturbing = asyncio.ensure_future(disturb())
    load = await drive(page, rate=RATE, seconds=BEFORE_S + STALL_S + AFTER_S)
    await disturbing
    calls: Counter[int] = Counter()
    personal: Counter[int] = Counter()
    for number, outcome in enumerate(load.outcomes):
        second = int((begun[number] - ended_at) // 1)
        calls[second] += 1
        personal[second] += outcome == "personal"
    shares = {f"s {second}": round(100 * personal[second] / max(1, calls[second])) for second in range(int(AFTER_S))}
    during = [second for second in calls if second < 0]
    row: Row = {
        "stall": name,
        "during %": round(100 * sum(personal[one] for one in during) / max(1, sum(calls[one] for one in during))),
        **shares,
        "why trending": " ".join(f"{reason} {count}" for reason, count in sorted(users.reasons.items())),
    }
    print(row, flush=True)
    await users.channel.close()
    return row


def _slowed_recsvc(peers: Peers, slow_file: Path) -> Service:
    address = f"127.0.0.1:{free_port()}"
    own = {"RECSVC_LISTEN": address, "MODEL_CACHE_DIR": str(peers.folder / "cache"), "SLOW_FILE": str(slow_file)}
    service = Service("benchmarks.feed.slowed_recsvc", address, peers.environment | own, peers.folder / "recsvc.log")
    peers.stack.callback(service.stop)
    service.start()
    return service


def _child(service: Service) -> Child:
    if service.child is None:
        raise RuntimeError("it does not run")
    return service.child
