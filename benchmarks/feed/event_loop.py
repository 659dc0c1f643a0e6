"""Measures pages while Datadog's host name hangs and while nobody reads the log, beside idle ones (EVENT_LOOP_S).

One recsvc and several bridges, each asked in turn at the same open-loop rate, ten times over: `idle` sends its metrics
to a socket that discards them and logs to a file. BASELINE=<checkout> measures the bridge of another checkout instead.
"""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks import knob
from benchmarks.feed.stack import Peers, Users, running_peers
from benchmarks.open_loop import Load, drive, together
from benchmarks.report import Row
from deploy.local.program import ROOT
from deploy.probe import serves
from servicekit.process.ports import free_port

SECONDS: Final = knob.number("EVENT_LOOP_S", 2.0)
ROUNDS: Final = knob.whole("EVENT_LOOP_ROUNDS", 10)
RATE: Final = 100.0
START_S: Final = 60.0
BUDGET: Final = 1.5
HANGS: Final = """
import runpy, socket, threading
found = socket.getaddrinfo

def hang(host, *arguments, **options):
    if host == "agent.example":
        threading.Event().wait()
    return found(host, *arguments, **options)

socket.getaddrinfo = hang
runpy.run_module("bridge", run_name="__main__")
"""


def run() -> dict[str, list[Row]]:
    """Measure all cases, and return their table."""
    with running_peers() as peers, ExitStack() as stack:
        return asyncio.run(_measure(peers, stack))


async def _measure(peers: Peers, stack: ExitStack) -> dict[str, list[Row]]:
    endpoint = peers.recsvc("recsvc").address
    sink = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sink.bind(("127.0.0.1", 0))
    port = str(sink.getsockname()[1])
    common = {"LIGHTFM_GRPC_ENDPOINT": endpoint, "DD_DOGSTATSD_PORT": port, "LOG_LEVEL": "debug"}
    addresses = {
        "idle": _bridge(peers, stack, "idle", {**common, "DD_AGENT_HOST": "127.0.0.1"}),
        "agent's name hangs": _bridge(peers, stack, "hung", {**common, "DD_AGENT_HOST": "agent.example"}),
        "nobody reads the log": _bridge(
            peers, stack, "log", {**common, "DD_AGENT_HOST": "127.0.0.1"}, log=subprocess.PIPE
        ),
    }
    loads: dict[str, list[Load]] = defaultdict(list)
    for turn in range(ROUNDS):
        for name, address in addresses.items():
            users = Users(address)
            await users.channel.channel_ready()
            loads[name].append(await drive(users.page, rate=RATE, seconds=SECONDS, seed=turn))
            await users.channel.close()
    return {f"{RATE:.0f} pages/s; budget: p99 at most {BUDGET} of idle's": [_row(name, loads) for name in addresses]}


def _bridge(
    peers: Peers, stack: ExitStack, name: str, environment: Mapping[str, str], *, log: int | None = None
) -> str:
    """Start a bridge of the checkout, and return its address once it serves."""
    checkout = Path(os.environ.get("BASELINE") or ROOT)
    address = f"127.0.0.1:{free_port()}"
    own = {"BRIDGE_LISTEN": address, "TRENDING_SNAPSHOT_PATH": str(peers.folder / f"trending-{name}.json")}
    file = stack.enter_context((peers.folder / f"{name}.log").open("wb"))
    process = subprocess.Popen(
        [sys.executable, "-c", HANGS],
        cwd=checkout,
        env={**peers.environment, **environment, **own, "PYTHONPATH": str(checkout)},
        stderr=file if log is None else log,
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    deadline = time.monotonic() + START_S
    while not serves(address):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the bridge {name} does not serve")
        time.sleep(0.1)
    return address


def _row(name: str, loads: Mapping[str, list[Load]]) -> Row:
    ratios = [one.percentile(99) / idle.percentile(99) for one, idle in zip(loads[name], loads["idle"], strict=True)]
    low, high = np.percentile(ratios, [2.5, 97.5])
    ratio = f"{np.median(ratios):.2f} [{low:.2f}, {high:.2f}]"
    return {"bridge": name, **together(loads[name]).summary(), "p99 / idle": ratio}
