"""Servers of both kinds: not serving until told, and a shutdown that loses nothing that has begun."""

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from servicekit.server.grpc_server import AioServer
from servicekit.server.threaded import ThreadedServer
from tests.support.grpc.echo import SERVICE, caller, handlers, is_refused
from tests.support.grpc.grpcurl import Grpcurl
from tests.support.grpc.thread_servers import KINDS
from tests.support.polling import wait_for

pytestmark = pytest.mark.peer

ROOT: Final = Path(__file__).parents[3]
LOCAL: Final = [("grpc.use_local_subchannel_pool", 1)]
SIGNALLED: Final = """
import asyncio
from servicekit.process.termination import aio_termination, thread_termination
def threads():
    event = thread_termination(); print("ready", flush=True); event.wait()
def polling():
    event = thread_termination(); print("ready", flush=True)
    while not event.wait(0): pass
async def loop():
    event = aio_termination(); print("ready", flush=True); await event.wait()
"""


def health(address: str, service: str = "") -> Any:
    """Return the server's word on a service."""
    with grpc.insecure_channel(address, LOCAL) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]  # the stubs lack it
        return health_pb2.HealthCheckResponse.ServingStatus.Name(
            check(health_pb2.HealthCheckRequest(service=service), timeout=5).status
        )


class Gate:
    """A method that answers when it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def handle(self, request: bytes, _: grpc.ServicerContext) -> bytes:
        self.entered.set()
        assert self.opened.wait(10)
        return request

    async def handle_aio(self, request: bytes, _: Any) -> bytes:
        self.entered.set()
        await asyncio.to_thread(self.opened.wait, 10)
        return request


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture(params=KINDS)
def thread_server(request: pytest.FixtureRequest, gate: Gate) -> Iterator[tuple[ThreadedServer, str]]:
    server = KINDS[request.param](["grpc.health.v1.Health"], threads=4)
    server.add_methods(SERVICE, handlers(Wait=gate.handle))
    yield server, f"127.0.0.1:{server.start('127.0.0.1:0')}"
    server.drain(0)


@pytest.fixture
async def aio_server(gate: Gate) -> AsyncIterator[tuple[AioServer, str]]:
    server = AioServer(["grpc.health.v1.Health"])
    server.add_methods(SERVICE, handlers(Wait=gate.handle_aio))
    yield server, f"127.0.0.1:{await server.start('127.0.0.1:0')}"
    await server.drain(0)


def test_a_server_does_not_serve_until_told(thread_server: tuple[ThreadedServer, str]) -> None:
    server, address = thread_server
    assert health(address) == health(address, "grpc.health.v1.Health") == "NOT_SERVING"
    server.set_serving(serving=True)
    assert health(address) == health(address, "grpc.health.v1.Health") == "SERVING"


async def test_an_asyncio_server_does_not_serve_until_told(aio_server: tuple[AioServer, str]) -> None:
    server, address = aio_server
    assert await asyncio.to_thread(health, address) == "NOT_SERVING"
    await server.set_serving(serving=True)
    assert await asyncio.to_thread(health, address) == "SERVING"


def test_health_of_an_unknown_service_is_not_found(thread_server: tuple[ThreadedServer, str]) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        health(thread_server[1], "no.Such")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_answers_grpcurl(thread_server: tuple[ThreadedServer, str], grpcurl: Grpcurl) -> None:
    server, address = thread_server
    assert "grpc.health.v1.Health" in grpcurl.services(address)
    server.set_serving(serving=True)
    assert grpcurl(address, "grpc.health.v1.Health/Check").message == {"status": "SERVING"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_taken_address_is_refused(thread_server: tuple[ThreadedServer, str], kind: str) -> None:
    with pytest.raises(RuntimeError):
        KINDS[kind]([], threads=1).start(thread_server[1])


async def test_a_taken_address_is_refused_by_an_asyncio_server(aio_server: tuple[AioServer, str]) -> None:
    with pytest.raises(RuntimeError):
        await AioServer([]).start(aio_server[1])


def test_draining_lets_running_calls_finish_and_refuses_new_ones(
    thread_server: tuple[ThreadedServer, str], gate: Gate
) -> None:
    server, address = thread_server
    with grpc.insecure_channel(address, LOCAL) as channel, grpc.insecure_channel(address, LOCAL) as late:
        running = caller(channel, "Wait").future(b"mine", timeout=10)
        assert gate.entered.wait(5)
        draining = threading.Thread(target=server.drain, args=(10,))
        draining.start()
        assert wait_for(lambda: is_refused(late), what="new calls are refused")
        gate.opened.set()
        assert running.result() == b"mine"
        draining.join(10)
        assert not draining.is_alive()


async def test_an_asyncio_server_drains_likewise(aio_server: tuple[AioServer, str], gate: Gate) -> None:
    server, address = aio_server
    async with aio.insecure_channel(address, LOCAL) as channel:
        method: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/Wait")
        running = asyncio.ensure_future(method(b"mine", timeout=10))
        assert await asyncio.to_thread(gate.entered.wait, 5)
        draining = asyncio.create_task(server.drain(10))
        with grpc.insecure_channel(address, LOCAL) as late:
            assert await asyncio.to_thread(wait_for, lambda: is_refused(late))
        gate.opened.set()
        assert await running == b"mine"
        await asyncio.wait_for(draining, 10)


def test_draining_does_not_wait_longer_than_its_grace(thread_server: tuple[ThreadedServer, str], gate: Gate) -> None:
    server, address = thread_server
    with grpc.insecure_channel(address, LOCAL) as channel:
        running = caller(channel, "Wait").future(b"mine", timeout=10)
        assert gate.entered.wait(5)
        server.drain(0.1)
        with pytest.raises(grpc.RpcError):
            running.result()
        gate.opened.set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", ["threads()", "polling()", "asyncio.run(loop())"])
def test_signals_ask_for_the_end_and_nothing_else(kind: str, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SIGNALLED + kind], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        try:
            _, errors = process.communicate(timeout=10)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "")


def test_watchers_of_health_that_leave_do_not_lock_the_server(thread_server: tuple[ThreadedServer, str]) -> None:
    """While health changes, watchers come and go; there are more of them than the server has threads."""
    server, address = thread_server
    with grpc.insecure_channel(address, LOCAL) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch  # type: ignore[attr-defined]  # the stubs lack it
        for turn in range(100):
            calls = [watch(health_pb2.HealthCheckRequest()) for _ in range(6)]
            assert len([next(call).status for call in calls]) == 6
            leaving = threading.Thread(target=lambda calls=calls: [call.cancel() for call in calls])
            leaving.start()
            server.set_serving(serving=turn % 2 == 0)
            leaving.join()
    assert health(address) == "NOT_SERVING"
