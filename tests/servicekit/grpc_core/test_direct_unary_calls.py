"""Unary calls of a thread server: what is relied on of gRPC's core, and what callers and handlers can rely on."""

import contextvars
import gc
import logging
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from servicekit.server.threaded import ThreadedServer
from tests.support.echo import SERVICE, caller, handlers, is_refused
from tests.support.polling import wait_for
from tests.support.thread_servers import KINDS

pytestmark = pytest.mark.peer

ROOT: Final = Path(__file__).parents[3]
THREADS: Final = 3
LOCAL: Final = [("grpc.use_local_subchannel_pool", 1)]
VARIABLE: Final = contextvars.ContextVar("VARIABLE", default="unset")
CALLER: Final = """
import sys, grpc
with grpc.insecure_channel(sys.argv[1]) as channel:
    print("calling", flush=True)
    channel.unary_unary(f"/{sys.argv[2]}/Wait")(b"killed", timeout=60)
"""

SERVERS: Final = """
import random, threading, time, sys
from tests.support.echo import SERVICE, handlers
from tests.support.thread_servers import KINDS

def spin():
    while True:
        sum(range(200))

threading.Thread(target=spin, daemon=True).start()  # wants the interpreter's lock as well
for round in range(20):
    calls = threading.Semaphore(0)

    def echo(request, _, calls=calls):
        end = time.perf_counter() + 0.0002
        while time.perf_counter() < end:
            pass
        calls.release()
        return request

    server = KINDS[sys.argv[1]]([], threads=8)
    server.add_methods(SERVICE, handlers(Echo=echo))
    print(server.start("127.0.0.1:0"), flush=True)
    for _ in range(10):
        assert calls.acquire(timeout=20), "calls come in"
    time.sleep(random.random() * 0.03)  # ends at any point of a call
    server.drain(2 * (round % 2))
"""


class Gate:
    """A method that answers when it is opened, and counts whom it let in."""

    def __init__(self) -> None:
        self.entered: list[bytes] = []
        self.opened = threading.Event()

    def handle(self, request: bytes, _: grpc.ServicerContext) -> bytes:
        self.entered.append(request)
        assert self.opened.wait(20)
        return request


def echo(request: bytes, _: grpc.ServicerContext) -> bytes:
    return request


def metadata(_: bytes, context: grpc.ServicerContext) -> bytes:
    context.set_trailing_metadata((("told", dict(context.invocation_metadata())["asked"]),))
    return str(context.time_remaining()).encode()


def leave(_: bytes, __: grpc.ServicerContext) -> bytes:
    sys.exit("no way to end a call")


def unsendable(_: bytes, context: grpc.ServicerContext) -> bytes:
    context.set_trailing_metadata((("No Such Key", "value"),))
    return b""


def variable(request: bytes, _: grpc.ServicerContext) -> bytes:
    found = VARIABLE.get()
    VARIABLE.set(request.decode())
    return found.encode()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which server: all that is tested here, public gRPC lets both keep, but for what says otherwise."""
    return str(request.param)


@pytest.fixture
def server(kind: str, gate: Gate) -> Iterator[tuple[ThreadedServer, str]]:
    server = KINDS[kind]([], threads=THREADS, options=[("grpc.max_receive_message_length", 1000)])
    methods: dict[str, Callable[..., Any]] = {
        "Wait": gate.handle,
        "Echo": echo,
        "Metadata": metadata,
        "Leave": leave,
        "Unsendable": unsendable,
        "Variable": variable,
    }
    server.add_methods(SERVICE, handlers(**methods))
    yield server, f"127.0.0.1:{server.start('127.0.0.1:0')}"
    server.drain(0)


@pytest.fixture
def channel(server: tuple[ThreadedServer, str]) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server[1], LOCAL) as channel:
        yield channel


def failure(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    """Return the status of a call that fails, and its details."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    error: Any = raised.value
    return error.code(), error.details()


def test_each_of_many_calls_at_once_gets_its_own_reply(channel: grpc.Channel) -> None:
    call = caller(channel, "Echo")
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda number: call(str(number).encode(), timeout=10), range(2_000)))
    assert replies == [str(number).encode() for number in range(2_000)]


def test_as_many_calls_run_at_once_as_there_are_threads(channel: grpc.Channel, gate: Gate) -> None:
    """The next one waits, and so do calls of other methods; all are answered in the end."""
    waiting = [caller(channel, "Wait").future(str(number).encode(), timeout=20) for number in range(THREADS + 1)]
    wait_for(lambda: len(gate.entered) == THREADS, what="all threads are taken")
    other = caller(channel, "Echo").future(b"other", timeout=20)

    assert failure(lambda: caller(channel, "Echo")(b"hurried", timeout=0.3))[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(gate.entered) == THREADS
    assert not other.done()
    gate.opened.set()

    assert [one.result() for one in waiting] == [b"0", b"1", b"2", b"3"]
    assert other.result() == b"other"


def test_callers_that_gave_up_in_the_queue_harm_nobody(channel: grpc.Channel, gate: Gate) -> None:
    taken = [caller(channel, "Wait").future(b"taken", timeout=20) for _ in range(THREADS)]
    wait_for(lambda: len(gate.entered) == THREADS, what="all threads are taken")

    gone = [caller(channel, "Wait").future(b"gone", timeout=0.2) for _ in range(20)]
    assert {one.code() for one in gone} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    gate.opened.set()

    assert [one.result() for one in taken] == [b"taken"] * THREADS
    assert caller(channel, "Wait")(b"next", timeout=10) == b"next"


def test_callers_that_leave_while_they_are_answered_harm_nobody(
    channel: grpc.Channel, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), structlog.testing.capture_logs() as logged:
        leaving = [caller(channel, "Wait").future(b"leaving", timeout=20) for _ in range(THREADS)]
        wait_for(lambda: len(gate.entered) == THREADS, what="all are let in")
        assert all(one.cancel() for one in leaving)
        gate.opened.set()
        assert caller(channel, "Echo")(b"next", timeout=10) == b"next"
    assert not logged
    assert not caplog.records


def test_callers_that_are_killed_harm_nobody(
    server: tuple[ThreadedServer, str], channel: grpc.Channel, gate: Gate
) -> None:
    command = [sys.executable, "-c", CALLER, server[1], SERVICE]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        wait_for(lambda: gate.entered == [b"killed"], what="the call has come")
        process.kill()
    gate.opened.set()
    assert caller(channel, "Echo")(b"next", timeout=10) == b"next"


def test_metadata_and_deadlines_pass(channel: grpc.Channel) -> None:
    method = caller(channel, "Metadata")
    reply, call = method.with_call(b"", timeout=10, metadata=(("asked", "this"),))
    assert 5 < float(reply) < 11
    assert [*map(tuple, call.trailing_metadata())] == [("told", "this")]
    assert float(method(b"", metadata=(("asked", "this"),))) > 1e6, "without a deadline there is all the time"


def test_a_request_that_is_too_large_is_refused(channel: grpc.Channel) -> None:
    code, details = failure(lambda: caller(channel, "Echo")(b"x" * 1001, timeout=10))
    assert (code, "larger" in details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
    assert caller(channel, "Echo")(b"x" * 1000, timeout=10) == b"x" * 1000


def test_a_call_without_a_request_is_refused(channel: grpc.Channel) -> None:
    method: grpc.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(f"/{SERVICE}/Echo")
    code, details = failure(lambda: method(iter(()), timeout=10))
    assert (code, "one request message" in details) == (grpc.StatusCode.UNIMPLEMENTED, True)
    assert method(iter([b"one"]), timeout=10) == b"one"


def test_a_reply_that_cannot_be_sent_ends_its_call_and_no_thread(channel: grpc.Channel) -> None:
    for _ in range(THREADS + 1):
        code, _ = failure(lambda: caller(channel, "Unsendable")(b"", timeout=10))
        assert code in {grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
    assert caller(channel, "Echo")(b"next", timeout=10) == b"next"


def test_a_handler_that_leaves_takes_no_thread_with_it(channel: grpc.Channel) -> None:
    for _ in range(THREADS + 1):
        found = failure(lambda: caller(channel, "Leave")(b"", timeout=10))
        assert found == (grpc.StatusCode.INTERNAL, "internal error")
    assert caller(channel, "Echo")(b"next", timeout=10) == b"next"


def test_what_a_call_leaves_in_context_variables_reaches_no_other(channel: grpc.Channel) -> None:
    assert [caller(channel, "Variable")(b"left", timeout=10) for _ in range(THREADS + 1)] == [b"unset"] * (THREADS + 1)


def test_nothing_of_a_call_stays_in_memory(kind: str) -> None:
    class Request:
        """One that can be referred to weakly."""

        def __init__(self, data: bytes) -> None:
            self.data = data

    seen: list[weakref.ref[Request]] = []

    def mirror(request: Request, _: grpc.ServicerContext) -> bytes:
        seen.append(weakref.ref(request))
        return request.data

    server = KINDS[kind]([], threads=1)
    handler: Any = grpc.unary_unary_rpc_method_handler(mirror, Request)
    server.add_methods(SERVICE, {"Echo": handler})
    with grpc.insecure_channel(f"127.0.0.1:{server.start('127.0.0.1:0')}", LOCAL) as channel:
        assert caller(channel, "Echo")(b"mine", timeout=10) == b"mine"
        wait_for(lambda: gc.collect() >= 0 and seen[0]() is None, what="the request is let go")
    server.drain(0)


def test_draining_ends_the_threads(kind: str, server: tuple[ThreadedServer, str], channel: grpc.Channel) -> None:
    before = set(threading.enumerate()) if kind == "plain" else set()  # it starts each one when it is needed
    assert caller(channel, "Echo")(b"mine", timeout=10) == b"mine"
    named = ("rpc-",) if kind == "direct" else ("rpc_", "call_")
    threads = [one for one in threading.enumerate() if one.name.startswith(named) and one not in before]
    assert len(threads) >= {"direct": THREADS, "plain": 2}[kind]
    server[0].drain(0)
    for one in threads:
        one.join(10)
    assert not any(one.is_alive() for one in threads)


def test_calls_that_wait_for_a_thread_are_answered_at_a_drain(
    server: tuple[ThreadedServer, str], channel: grpc.Channel, gate: Gate
) -> None:
    running = [caller(channel, "Wait").future(str(number).encode(), timeout=20) for number in range(10 * THREADS)]
    wait_for(lambda: len(gate.entered) == THREADS, what="all threads are taken")
    health = health_pb2_grpc.HealthStub(channel)  # answered when all calls before it on the connection have come
    assert health.Check(health_pb2.HealthCheckRequest(), timeout=10)  # type: ignore[attr-defined]  # the stubs lack it
    draining = threading.Thread(target=server[0].drain, args=(10,))
    draining.start()
    with grpc.insecure_channel(server[1], LOCAL) as late:
        wait_for(lambda: is_refused(late), what="new calls are refused")
    gate.opened.set()

    assert [one.result() for one in running] == [str(number).encode() for number in range(10 * THREADS)]
    draining.join(10)
    assert not draining.is_alive()


def test_servers_end_well_while_calls_come_in(kind: str) -> None:
    """The core of gRPC ends the process where it is used wrongly, so the servers have one of their own."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVERS, kind], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        rounds = sum(1 for port in process.stdout if until_refused(f"127.0.0.1:{port.strip()}") > 0)
    assert (process.returncode, rounds) == (0, 20)


def until_refused(address: str) -> int:
    """Call a server from two threads until it ends; the calls that were answered."""

    def call() -> int:
        answered = 0
        with grpc.insecure_channel(address, LOCAL) as channel:
            try:
                while True:
                    caller(channel, "Echo")(b"", timeout=10)
                    answered += 1
            except grpc.RpcError:
                return answered

    with ThreadPoolExecutor(2) as pool:
        return sum(one.result() for one in [pool.submit(call) for _ in range(2)])


def test_interceptors_of_the_server_see_each_call(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instrumentation puts them around all handlers of a server, as ddtrace does."""
    seen: list[tuple[str, bool]] = []

    class Tracing(grpc.ServerInterceptor):
        """Notes calls and how their handlers ended."""

        def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
            inner = continuation(handler_call_details)

            def call(request: Any, context: Any) -> Any:
                assert isinstance(context, grpc.ServicerContext)
                asked = dict(handler_call_details.invocation_metadata).get("asked", "")
                try:
                    reply = inner.unary_unary(request, context)
                except Exception:
                    seen.append((handler_call_details.method + asked, False))
                    raise
                seen.append((handler_call_details.method + asked, True))
                return reply

            return grpc.unary_unary_rpc_method_handler(call, inner.request_deserializer, inner.response_serializer)

    def fail(_: bytes, __: grpc.ServicerContext) -> bytes:
        raise RuntimeError

    monkeypatch.setattr(grpc, "server", partial(grpc.server, interceptors=[Tracing()]))
    server = KINDS[kind]([], threads=1)
    server.add_methods(SERVICE, handlers(Echo=echo, Fail=fail))
    with grpc.insecure_channel(f"127.0.0.1:{server.start('127.0.0.1:0')}", LOCAL) as channel:
        assert caller(channel, "Echo")(b"mine", timeout=10, metadata=(("asked", "!"),)) == b"mine"
        assert failure(lambda: caller(channel, "Fail")(b"", timeout=10)) == (grpc.StatusCode.INTERNAL, "internal error")
    server.drain(0)

    assert seen == [(f"/{SERVICE}/Echo!", True), (f"/{SERVICE}/Fail", False)]
