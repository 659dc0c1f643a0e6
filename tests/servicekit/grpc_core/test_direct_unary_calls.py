"""Unary calls of a thread server: what is relied on of gRPC's core, and what callers and handlers can rely on."""

import gc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
import pytest

from tests.servicekit.support.unary_calls import LOCAL, THREADS, Gate, echo
from tests.support.grpc.echo import SERVICE, caller, handlers
from tests.support.grpc.thread_servers import KINDS
from tests.support.polling import wait_for

pytestmark = pytest.mark.peer


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
