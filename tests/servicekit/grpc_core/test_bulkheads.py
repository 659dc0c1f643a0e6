"""No kind of call waits behind another one, and no caller holds more than its share by saying nothing."""

import threading
from collections.abc import Iterator
from typing import Any, Final

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from servicekit.grpc_core import bulkhead
from servicekit.server import health_service, plain_health, plain_reflection, reflection_service
from servicekit.server.threaded import ThreadedServer
from tests.servicekit.support.silent_calls import CHECK, CROWDED, ECHO, LOCAL, OVERDUE, REFLECTION, WATCH
from tests.support.grpc.echo import SERVICE, caller
from tests.support.grpc.thread_servers import KINDS
from tests.support.polling import wait_for

pytestmark = pytest.mark.peer


MANY: Final = f"/{SERVICE}/Many"


STORE: Final = f"/{SERVICE}/Store"


IDLE: Final = 60
"""Calls of a kind that say nothing: more than any pool has threads."""


class Store:
    """Methods that hang until the store is back."""

    def __init__(self) -> None:
        self.back = threading.Event()
        self.entered = threading.Semaphore(0)

    def one(self, request: bytes, _: Any) -> bytes:
        self.entered.release()
        assert self.back.wait(60)
        return request

    def many(self, request: bytes, _: Any) -> Iterator[bytes]:
        if request == b"hang":
            self.one(request, None)
        for number in range(3):
            yield str(number).encode()


def echo(request: bytes, _: Any) -> bytes:
    return request


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    yield store
    store.back.set()


def methods(store: Store) -> dict[str, Any]:
    return {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Store": grpc.unary_unary_rpc_method_handler(store.one),
        "Many": grpc.unary_stream_rpc_method_handler(store.many),
    }


def serve(store: Store, kind: str = "direct", **changes: Any) -> tuple[ThreadedServer, str]:
    server = KINDS[kind]([], threads=4, **changes)
    server.bulkhead("stores", running=2, waiting=3, methods=[STORE])
    server.add_methods(SERVICE, methods(store))
    address = f"127.0.0.1:{server.start('127.0.0.1:0')}"
    server.set_serving(serving=True)
    return server, address


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which server."""
    return str(request.param)


@pytest.fixture
def address(store: Store, kind: str) -> Iterator[str]:
    server, address = serve(store, kind)
    yield address
    store.back.set()
    server.drain(0)


@pytest.fixture
def impatient(store: Store) -> Iterator[str]:
    """A server that speaks to gRPC's core: a plain one cannot end a call before its handler has begun."""
    server, address = serve(store, first_message_s=0.4)
    yield address
    store.back.set()
    server.drain(0)


@pytest.fixture
def channel(address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address, LOCAL) as channel:
        yield channel


def silent(channel: grpc.Channel, method: str, done: threading.Event) -> Any:
    """Begin a call, of any kind, and send no message."""

    def nothing() -> Iterator[bytes]:
        done.wait(60)
        yield from ()

    any_kind: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
    return any_kind(nothing())


def serves(channel: grpc.Channel) -> bool:
    """Return whether health says so, and pages and streams are answered."""
    check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]  # the stubs lack it
    many: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(MANY)
    assert check(health_pb2.HealthCheckRequest(), timeout=20).status == health_pb2.HealthCheckResponse.SERVING
    assert caller(channel, "Echo")(b"page", timeout=20) == b"page"
    return list(many(b"", timeout=20)) == [b"0", b"1", b"2"]


def reason(error: Any) -> tuple[grpc.StatusCode, str, bool]:
    """Return an error's code and reason, and whether it says when to try again."""
    status = rpc_status.from_call(error)
    assert status, error
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    found = [one for one in status.details if one.Unpack(info)]
    return error.code(), info.reason if found else "", any(one.Unpack(retry) for one in status.details)


@pytest.mark.parametrize("method", [CHECK, WATCH, REFLECTION, MANY, ECHO, STORE])
def test_calls_without_a_message_silence_nobody(channel: grpc.Channel, method: str) -> None:
    done = threading.Event()
    idle = [silent(channel, method, done) for _ in range(IDLE)]
    try:
        assert serves(channel)
    finally:
        done.set()
        for one in idle:
            one.cancel()


@pytest.mark.parametrize("method", [CHECK, WATCH, REFLECTION, MANY, ECHO, STORE])
def test_calls_whose_message_does_not_come_are_ended(impatient: str, method: str) -> None:
    done = threading.Event()
    with grpc.insecure_channel(impatient, LOCAL) as channel:
        idle = silent(channel, method, done)
        with pytest.raises(grpc.RpcError) as raised:
            next(idle)
        done.set()
        assert reason(raised.value) == OVERDUE
        assert serves(channel)


def test_a_store_that_hangs_stops_no_page(channel: grpc.Channel, store: Store) -> None:
    """Two run, three wait, and whoever comes then is told at once."""
    calls = [caller(channel, "Store").future(b"activate", timeout=60) for _ in range(8)]
    wait_for(lambda: sum(one.done() for one in calls) == 3, what="three are refused")
    assert serves(channel)
    refused = [one for one in calls if one.done()]
    assert [reason(one.exception()) for one in refused] == [CROWDED] * 3
    store.back.set()
    assert [one.result() for one in calls if one not in refused] == [b"activate"] * 5


def test_batches_that_take_long_stop_neither_pages_nor_health(channel: grpc.Channel, store: Store) -> None:
    many: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(MANY)
    batches = [many(b"hang", timeout=60) for _ in range(8)]
    assert store.entered.acquire(timeout=20)
    check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]  # the stubs lack it
    assert check(health_pb2.HealthCheckRequest(), timeout=20).status == health_pb2.HealthCheckResponse.SERVING
    assert caller(channel, "Echo")(b"page", timeout=20) == b"page"
    store.back.set()
    assert [len(list(one)) for one in batches] == [3] * 8


def test_a_batch_whose_caller_left_is_given_up(channel: grpc.Channel) -> None:
    many: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(MANY)
    for _ in range(20):
        batch = many(b"", timeout=60)
        next(batch)
        batch.cancel()
    assert serves(channel)


@pytest.mark.parametrize(
    ("kind", "module", "method"),
    [
        ("direct", health_service, WATCH),
        ("direct", reflection_service, REFLECTION),
        ("direct", bulkhead, MANY),
        ("plain", plain_reflection, REFLECTION),
    ],
)
def test_no_more_calls_of_a_kind_are_open_than_the_server_takes(
    monkeypatch: pytest.MonkeyPatch, store: Store, kind: str, module: Any, method: str
) -> None:
    monkeypatch.setattr(module, "OPEN", 5)
    server, address = serve(store, kind)
    done = threading.Event()
    with grpc.insecure_channel(address, LOCAL) as channel:
        idle = [silent(channel, method, done) for _ in range(6)]
        wait_for(lambda: sum(one.done() for one in idle) == 1, what="one is refused, whichever came last")
        assert [reason(one) for one in idle if one.done()] == [CROWDED]
        assert caller(channel, "Echo")(b"page", timeout=20) == b"page"
        done.set()
        for one in idle:
            one.cancel()
    server.drain(0)


def test_a_plain_server_takes_so_many_watchers(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    """Each of them holds a thread, from its message on; when one leaves, the next one is taken."""
    monkeypatch.setattr(plain_health, "WATCHERS", 3)
    server, address = serve(store, "plain")
    with grpc.insecure_channel(address, LOCAL) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch  # type: ignore[attr-defined]  # the stubs lack it
        taken = [watch(health_pb2.HealthCheckRequest()) for _ in range(3)]
        assert [next(one).status for one in taken] == [health_pb2.HealthCheckResponse.SERVING] * 3
        with pytest.raises(grpc.RpcError) as raised:
            next(watch(health_pb2.HealthCheckRequest()))
        assert reason(raised.value) == CROWDED
        taken[0].cancel()
        wait_for(lambda: is_taken(watch(health_pb2.HealthCheckRequest())), what="the next one is taken")
    server.drain(0)


def is_taken(watch: Any) -> bool:
    try:
        return bool(next(watch).status == health_pb2.HealthCheckResponse.SERVING)
    except grpc.RpcError:
        return False


def test_watchers_end_with_a_reason_when_a_server_does(store: Store, kind: str) -> None:
    server, address = serve(store, kind)
    with grpc.insecure_channel(address, LOCAL) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        server.drain(60)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as raised:
            next(watch)
    assert reason(raised.value) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN", True)
