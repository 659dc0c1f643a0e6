"""What a handler raises becomes a status: the documented one of a ServiceError, and nothing of a defect."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import grpc
import pytest
import structlog
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from grpc_status import rpc_status

from servicekit.grpc.errors import Violation, invalid_argument, not_found, unavailable, unimplemented
from servicekit.server.grpc_server import AioServer
from servicekit.server.thread_server import ThreadServer
from tests.support.grpc.echo import SERVICE, caller

pytestmark = pytest.mark.peer

SECRET: Final = "password of the database"  # noqa: S105  # no real one


def bad() -> None:
    raise invalid_argument(Violation("page_size", "is -1"), Violation("filter.any_tags[3]", "must not be empty"))


def busy() -> None:
    raise unavailable("STORE_DOWN", "the store is away", retry_after_s=1.5)


def defect() -> None:
    raise RuntimeError(SECRET)


RAISE: Final = {"Bad": bad, "Busy": busy, "Defect": defect}


def unary(name: str) -> Any:
    def handle(_: bytes, __: Any) -> bytes:
        RAISE[name]()
        return b""

    return grpc.unary_unary_rpc_method_handler(handle)


def unary_aio(name: str) -> Any:
    async def handle(_: bytes, __: Any) -> bytes:
        await asyncio.sleep(0)
        RAISE[name]()
        return b""

    return grpc.unary_unary_rpc_method_handler(handle)


def replies(_: bytes, __: Any) -> Iterator[bytes]:
    yield b"first"
    defect()


async def replies_aio(requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request
        bad()


CANCELLED: Final = threading.Event()
ENDED: Final = threading.Event()


def late(_: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    context.add_callback(CANCELLED.set)
    try:
        CANCELLED.wait(5)
        context.send_initial_metadata(())
    finally:
        ENDED.set()
    yield b""


@pytest.fixture
def thread_address() -> Iterator[str]:
    server = ThreadServer([], threads=2)
    methods = {name: unary(name) for name in RAISE}
    methods["Replies"] = grpc.unary_stream_rpc_method_handler(replies)
    methods["Late"] = grpc.unary_stream_rpc_method_handler(late)
    server.add_methods(SERVICE, methods)
    yield f"127.0.0.1:{server.start('127.0.0.1:0')}"
    server.drain(0)


@pytest.fixture
async def aio_address() -> AsyncIterator[str]:
    server = AioServer([])
    methods = {name: unary_aio(name) for name in RAISE}
    methods["Replies"] = grpc.stream_stream_rpc_method_handler(replies_aio)
    server.add_methods(SERVICE, methods)
    yield f"127.0.0.1:{await server.start('127.0.0.1:0')}"
    await server.drain(0)


def failure(address: str, method: str) -> status_pb2.Status:
    """Call the method and return its status with details."""
    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        with pytest.raises(grpc.RpcError) as raised:
            caller(channel, method)(b"", timeout=5)
        status = rpc_status.from_call(raised.value)  # type: ignore[arg-type]  # the error is the call
        assert status
        return status


def detail(status: status_pb2.Status, kind: Any) -> Any:
    """Return the status's detail of one kind."""
    (packed,) = (one for one in status.details if one.Is(kind.DESCRIPTOR))
    unpacked = kind()
    packed.Unpack(unpacked)
    return unpacked


@pytest.fixture(params=["thread_address", "aio_address"])
def address(request: pytest.FixtureRequest) -> str:
    """The address of a server of each kind."""
    value: str = request.getfixturevalue(request.param)
    return value


async def test_bad_input_names_every_field(address: str) -> None:
    status = await asyncio.to_thread(failure, address, "Bad")
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert status.message == "page_size: is -1; filter.any_tags[3]: must not be empty"
    info = detail(status, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == ("INVALID_ARGUMENT", "videowindow")
    fields = [one.field for one in detail(status, error_details_pb2.BadRequest).field_violations]
    assert fields == ["page_size", "filter.any_tags[3]"]


async def test_what_passes_says_when_to_retry(address: str) -> None:
    status = await asyncio.to_thread(failure, address, "Busy")
    assert status.code == grpc.StatusCode.UNAVAILABLE.value[0]
    assert detail(status, error_details_pb2.ErrorInfo).reason == "STORE_DOWN"
    assert detail(status, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() == 1500


async def test_a_defect_shows_nothing_of_itself(address: str, capfd: pytest.CaptureFixture[str]) -> None:
    status = await asyncio.to_thread(failure, address, "Defect")
    assert (status.code, status.message) == (grpc.StatusCode.INTERNAL.value[0], "internal error")
    assert SECRET not in str(status)
    assert SECRET in "".join(capfd.readouterr()), "it is logged for those who can mend it"


def test_a_defect_in_a_stream_shows_nothing_of_itself(thread_address: str) -> None:
    with grpc.insecure_channel(thread_address) as channel:
        method: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(f"/{SERVICE}/Replies")
        stream = method(b"", timeout=5)
        assert next(stream) == b"first"
        with pytest.raises(grpc.RpcError) as raised:
            next(stream)
    assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.INTERNAL, "internal error")


async def test_an_error_in_an_asyncio_stream_has_its_details(aio_address: str) -> None:
    async with aio.insecure_channel(aio_address) as channel:
        method: aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(f"/{SERVICE}/Replies")
        stream = method(iter([b"one", b"two"]), timeout=5)
        assert await stream.read() == b"one"
        with pytest.raises(aio.AioRpcError) as raised:
            await stream.read()
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_unknown_method_is_unimplemented(address: str) -> None:
    def code() -> grpc.StatusCode:
        with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as raised:
            caller(channel, "NoSuch")(b"", timeout=5)
        return raised.value.code()

    assert await asyncio.to_thread(code) is grpc.StatusCode.UNIMPLEMENTED


def test_named_errors_have_their_reasons() -> None:
    assert (not_found("video", "v1").code, not_found("video", "v1").reason) == (
        grpc.StatusCode.NOT_FOUND,
        "VIDEO_NOT_FOUND",
    )
    assert unimplemented("/a.B/C").code is grpc.StatusCode.UNIMPLEMENTED


def test_a_caller_that_has_gone_is_no_defect(thread_address: str, caplog: pytest.LogCaptureFixture) -> None:
    """Headers can no longer be sent then: that is told to nobody, and fills no log."""
    with caplog.at_level(logging.ERROR), structlog.testing.capture_logs() as logged:
        with grpc.insecure_channel(thread_address) as channel:
            method: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(f"/{SERVICE}/Late")
            with pytest.raises(grpc.RpcError):
                list(method(b"", timeout=0.2))
        assert ENDED.wait(5)
        ends_what_runs = failure(thread_address, "Busy")
    assert ends_what_runs.message
    assert not [one for one in logged if one["log_level"] == "error"]
    assert not caplog.records
