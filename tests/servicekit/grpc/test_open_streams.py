"""An asyncio server lets no caller hold more than its share by saying nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from servicekit.grpc.open_streams import OpenStreams
from servicekit.server.grpc_server import AioServer
from tests.servicekit.support.silent_calls import CHECK, CROWDED, ECHO, LOCAL, OVERDUE, REFLECTION, WATCH
from tests.support.grpc.echo import SERVICE

pytestmark = pytest.mark.peer


async def both_ways(requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def echo_aio(request: bytes, _: Any) -> bytes:
    return request


async def serve_aio(streams: OpenStreams) -> tuple[AioServer, str]:
    server = AioServer([], streams=streams)
    answered: Any = {
        "Both": grpc.stream_stream_rpc_method_handler(both_ways),
        "Echo": grpc.unary_unary_rpc_method_handler(echo_aio),
    }
    server.add_methods(SERVICE, answered)
    address = f"127.0.0.1:{await server.start('127.0.0.1:0')}"
    await server.set_serving(serving=True)
    return server, address


async def aio_failure(read: Callable[[], Any]) -> tuple[grpc.StatusCode, str, bool]:
    """Return how a call ends that is read to its end."""
    with pytest.raises(aio.AioRpcError) as raised:
        await asyncio.wait_for(read(), 30)
    error = raised.value
    status = grpc.aio.Metadata(*error.trailing_metadata())
    found = [value for key, value in status if key == "grpc-status-details-bin"]
    text = found[0] if found else b""
    assert isinstance(text, bytes)
    return error.code(), next((one for one in REASONS if one.encode() in text), ""), b"RetryInfo" in text


REASONS: Final = ("MESSAGE_OVERDUE", "MESSAGE_MISSING", "TOO_MANY_CALLS", "SHUTTING_DOWN")


@pytest.mark.parametrize("method", [f"/{SERVICE}/Both", REFLECTION])
async def test_streams_that_say_nothing_are_ended_by_an_asyncio_server(method: str) -> None:
    """So is one that has said something, some time later; what it said is answered."""
    server, address = await serve_aio(OpenStreams(first_message_s=0.2, idle_s=0.6))
    async with aio.insecure_channel(address, LOCAL) as channel:
        idle: Any = channel.stream_stream(method)()
        assert await aio_failure(idle.read) == OVERDUE
    async with aio.insecure_channel(address, LOCAL) as channel:
        spoken: Any = channel.stream_stream(f"/{SERVICE}/Both")()
        await spoken.write(b"one")
        assert await spoken.read() == b"one"
        assert await aio_failure(spoken.read) == OVERDUE
    await server.drain(0)


@pytest.mark.parametrize("method", [ECHO, CHECK, WATCH])
async def test_calls_whose_message_does_not_come_are_ended_by_an_asyncio_server(method: str) -> None:
    """Others are answered meanwhile, also those that take their time; one without any message is told so."""
    server, address = await serve_aio(OpenStreams(first_message_s=0.4))
    async with aio.insecure_channel(address, LOCAL) as channel:
        idle: Any = channel.stream_stream(method)()
        swift: Any = channel.unary_unary(ECHO)
        assert await swift(b"page", timeout=20) == b"page"
        assert await aio_failure(idle.read) == OVERDUE
        late: Any = channel.stream_stream(ECHO)()
        await late.wait_for_connection()
        await late.write(b"late")
        assert await late.read() == b"late"
        empty: Any = channel.stream_stream(method)()
        await empty.done_writing()
        assert await aio_failure(empty.read) == (grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_MISSING", False)
    await server.drain(0)


async def test_calls_that_are_given_up_before_their_message_leave_nothing(caplog: pytest.LogCaptureFixture) -> None:
    streams = OpenStreams()
    server, address = await serve_aio(streams)
    async with aio.insecure_channel(address, LOCAL) as channel:
        idle: list[Any] = [channel.stream_stream(ECHO)() for _ in range(20)]
        for one in idle:
            await one.wait_for_connection()
        await until(lambda: len(streams.messages) == len(idle))
        for one in idle:
            one.cancel()
        await until(lambda: not len(streams.messages))
    await server.drain(20)
    assert [one.message for one in caplog.records if one.levelname in {"ERROR", "WARNING"}] == []


async def test_calls_without_a_message_hold_no_stop_up() -> None:
    """They are told that the server ends, and long before the grace is over."""
    streams = OpenStreams()
    server, address = await serve_aio(streams)
    async with aio.insecure_channel(address, LOCAL) as channel:
        idle: Any = channel.stream_stream(ECHO)()
        await until(lambda: len(streams.messages) == 1)
        draining = asyncio.create_task(server.drain(3600))
        assert await aio_failure(idle.read) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN", True)
        await asyncio.wait_for(draining, 30)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)


async def test_an_asyncio_server_takes_so_many_streams() -> None:
    server, address = await serve_aio(OpenStreams(limit=3))
    async with aio.insecure_channel(address, LOCAL) as channel:
        method: Any = channel.stream_stream(f"/{SERVICE}/Both")
        taken = [method() for _ in range(3)]
        for one in taken:
            await one.write(b"here")
            assert await one.read() == b"here"
        assert await aio_failure(method().read) == CROWDED
        taken[0].cancel()
        await until_taken(method)
        check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]  # the stubs lack it
        assert (await check(health_pb2.HealthCheckRequest(), timeout=20)).status == 1
    await server.drain(0)


async def until_taken(method: Any) -> None:
    """Try until a stream is taken."""
    for _ in range(500):
        one = method()
        try:
            await one.write(b"next")
            if await one.read() == b"next":
                return
        except aio.AioRpcError:
            await asyncio.sleep(0.02)
    raise AssertionError("no stream is taken")


async def test_watchers_and_streams_end_with_a_reason_when_an_asyncio_server_does() -> None:
    server, address = await serve_aio(OpenStreams())
    async with aio.insecure_channel(address, LOCAL) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        stream: Any = channel.stream_stream(f"/{SERVICE}/Both")()
        await stream.write(b"one")
        assert await stream.read() == b"one"
        draining = asyncio.create_task(server.drain(20))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        ended = (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN", True)
        assert [await aio_failure(watch.read), await aio_failure(stream.read)] == [ended, ended]
        await asyncio.wait_for(draining, 15)
