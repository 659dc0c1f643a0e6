"""A server that is told to end while calls come in cancels none of them; a connection that is old cuts none off."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from grpc import aio

from servicekit.grpc.errors import ServiceError
from servicekit.grpc.gate import Gate, Quiet
from servicekit.server.grpc_server import AioServer
from servicekit.server.server_options import OPTIONS
from tests.support.grpc.draining_server import REPLIES
from tests.support.grpc.echo import SERVICE, caller, handlers
from tests.support.grpc.thread_servers import KINDS
from tests.support.polling import wait_for

pytestmark = pytest.mark.peer

ROOT: Final = Path(__file__).parents[3]
LOCAL: Final = [("grpc.use_local_subchannel_pool", 1)]
CALLERS: Final = 8
OLD: Final = (("grpc.max_connection_age_ms", 150),)


@pytest.fixture(params=[*KINDS, "asyncio"])
def server(request: pytest.FixtureRequest) -> Iterator[tuple["subprocess.Popen[str]", str, str]]:
    """A server, its address, and its kind."""
    command = [sys.executable, "-m", "tests.support.grpc.draining_server", request.param]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process, f"127.0.0.1:{int(process.stdout.readline())}", request.param
        process.kill()


def unary(channel: grpc.Channel, _: str) -> bool:
    return caller(channel, "Echo")(b"one", timeout=60) == b"one"


def stream(channel: grpc.Channel, kind: str) -> bool:
    method = f"/{SERVICE}/Stream"
    if kind in KINDS:
        one: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(method)
        return len(list(one(b"one", timeout=60))) == REPLIES
    both: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
    return len(list(both(iter([b"one"] * REPLIES), timeout=60))) == REPLIES


def until_refused(call: Callable[[grpc.Channel, str], bool], address: str, kind: str, ends: "Counter[str]") -> None:
    """Call again and again until the server is gone."""
    with grpc.insecure_channel(address, LOCAL) as channel:
        try:
            while True:
                ends["whole" if call(channel, kind) else "cut"] += 1
        except grpc.RpcError as error:
            status: Any = error
            ends[status.code().name] += 1


@pytest.mark.parametrize("call", [unary, stream])
def test_no_call_is_cancelled_when_a_server_is_told_to_end(
    server: tuple["subprocess.Popen[str]", str, str], call: Callable[[grpc.Channel, str], bool]
) -> None:
    """Callers find it gone when all that was asked is answered."""
    process, address, kind = server
    ends: Counter[str] = Counter()
    with ThreadPoolExecutor(CALLERS) as pool:
        callers = [pool.submit(until_refused, call, address, kind, ends) for _ in range(CALLERS)]
        wait_for(lambda: ends["whole"] > 2 * CALLERS, what="calls are answered")
        process.send_signal(signal.SIGTERM)
        for one in callers:
            one.result(60)
    assert process.wait(60) == 0
    assert ends.pop("whole") > 2 * CALLERS
    assert ends == {"UNAVAILABLE": CALLERS}


def at_a_rate(address: str, ends: "Counter[str]") -> None:
    """Call whether or not the calls before have been answered, until the server is gone."""
    with grpc.insecure_channel(address, LOCAL) as channel:
        calls: list[Any] = []
        while not any(one.done() and one.exception() for one in calls):
            calls.append(caller(channel, "Echo").future(b"one", timeout=60))
            time.sleep(0.002)
        for one in calls:
            ends["whole" if one.exception() is None else one.exception().code().name] += 1


@pytest.mark.parametrize("server", ["hurried"], indirect=True)
def test_no_call_is_cancelled_where_calls_come_all_the_time(server: tuple["subprocess.Popen[str]", str, str]) -> None:
    """It never gets quiet: an asyncio server refuses calls, so that callers go to another replica."""
    process, address, _ = server
    ends: Counter[str] = Counter()
    with ThreadPoolExecutor(CALLERS) as pool:
        callers = [pool.submit(at_a_rate, address, ends) for _ in range(CALLERS)]
        process.send_signal(signal.SIGTERM)
        for one in callers:
            one.result(60)
    assert process.wait(60) == 0
    assert ends.pop("whole") > 0
    assert [*ends] == ["UNAVAILABLE"]


@pytest.mark.parametrize("kind", KINDS)
def test_connections_that_get_old_cut_no_call_off(kind: str) -> None:
    """Callers connect anew, maybe to another replica, while calls and streams go on."""
    server = KINDS[kind]([], threads=4, options=OLD)
    methods: Any = handlers(Echo=lambda request, _: request)
    renewed = threading.Event()

    def slow(_: bytes, __: Any) -> Iterator[bytes]:
        yield b"before"
        assert renewed.wait(60)
        yield b"after"

    methods["Stream"] = grpc.unary_stream_rpc_method_handler(slow)
    server.add_methods(SERVICE, methods)
    address = f"127.0.0.1:{server.start('127.0.0.1:0')}"
    with grpc.insecure_channel(address, LOCAL) as channel:
        states: list[grpc.ChannelConnectivity] = []
        channel.subscribe(states.append)
        many: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(f"/{SERVICE}/Stream")
        long = iter(many(b"", timeout=60))
        assert next(long) == b"before"
        answered = 0
        while states.count(grpc.ChannelConnectivity.READY) < 3:
            answered += caller(channel, "Echo")(b"one", timeout=60) == b"one"
        assert answered > 3
        renewed.set()
        assert list(long) == [b"after"]
    server.drain(0)


async def test_connections_of_an_asyncio_server_get_old_likewise() -> None:
    peers: set[str] = set()

    async def echo(request: bytes, context: Any) -> bytes:
        await asyncio.sleep(0.01)
        peers.add(context.peer())
        return request

    server = AioServer([], options=OLD)
    server.add_methods(SERVICE, handlers(Echo=echo))
    address = f"127.0.0.1:{await server.start('127.0.0.1:0')}"
    async with aio.insecure_channel(address, LOCAL) as channel:
        method: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/Echo")
        while len(peers) < 4:
            replies = await asyncio.gather(*[method(b"one", timeout=60) for _ in range(8)])
            assert replies == [b"one"] * 8
    await server.drain(0)


def test_pings_each_ten_seconds_are_no_offence() -> None:
    """Ten seconds is the least that clients in Go may ask for; gRPC's core ends the connection of who pings oftener."""
    assert dict(OPTIONS)["grpc.http2.min_ping_interval_without_data_ms"] <= 5_000


def test_it_is_quiet_when_all_that_passed_have_ended_and_nobody_came() -> None:
    now, arrivals, running = [0.0], [0], [1]
    quiet = Quiet(lambda: arrivals[0], lambda: running[0], quiet_s=1, within_s=10, clock=lambda: now[0])
    now[0] = 2.0
    assert not quiet.is_over(), "one is still answered"
    running[0] = 0
    now[0] = 2.5
    assert not quiet.is_over()
    arrivals[0] += 1
    now[0] = 3.2
    assert not quiet.is_over(), "one has come"
    now[0] = 4.3
    assert quiet.is_over()


def test_where_it_is_never_quiet_the_wait_ends_all_the_same() -> None:
    now = [0.0]
    quiet = Quiet(lambda: 0, lambda: 1, quiet_s=1, within_s=10, clock=lambda: now[0])
    now[0] = 9.9
    assert not quiet.is_over()
    now[0] = 10.0
    assert quiet.is_over()


async def test_callers_of_late_are_awaited() -> None:
    """One that is slow would call while the server ends."""
    gate = Gate()
    gate.watch()
    for peer in ("slow", "swift"):
        await gate.passage(peer)
    gate.shut()
    assert gate.awaited() == 2
    swift = asyncio.create_task(gate.passage("swift"))
    await asyncio.sleep(0)
    assert gate.awaited() == 1
    gate.open()
    await swift


async def test_a_gate_lets_those_pass_that_wait_and_refuses_all_others() -> None:
    gate = Gate()
    gate.shut()
    gate.arrivals += 1
    waiting = asyncio.create_task(gate.passage("one"))
    await asyncio.sleep(0)
    gate.refuse()
    await waiting
    assert gate.running() == 1
    with pytest.raises(ServiceError, match="about to end"):
        await gate.passage("other")


async def test_calls_behind_a_shut_gate_pass_when_it_opens() -> None:
    gate, passed = Gate(), []

    async def call(number: int) -> None:
        gate.arrivals += 1
        await gate.passage("one")
        passed.append(number)
        gate.ends += 1

    await call(0)
    gate.shut()
    calls = [asyncio.create_task(call(number)) for number in (1, 2)]
    await asyncio.sleep(0)
    assert (passed, gate.running()) == ([0], 0)
    gate.open()
    await asyncio.gather(*calls)
    assert (passed, gate.running()) == ([0, 1, 2], 0)
