"""The plain server rests on nothing that is private to gRPC, and knows as much of its callers as the direct one."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from servicekit.grpc.caller import caller_of
from tests.support.grpc.echo import SERVICE, caller, handlers
from tests.support.grpc.thread_servers import KINDS
from tests.support.polling import wait_for

pytestmark = pytest.mark.process

ROOT: Final = Path(__file__).parents[3]
LOCAL: Final = [("grpc.use_local_subchannel_pool", 1)]
POISONED: Final = """
import sys, types
import grpc, grpc._channel, grpc._server, grpc.aio, grpc.experimental.aio  # these have what they need

class Poisoned(types.ModuleType):
    def __getattr__(self, name):
        raise ImportError(f"{self.__name__} has no {name} any more")

private = ("grpc._cython", "grpc._server", "grpc._channel", "grpc._common", "grpc.aio._")
for name in [name for name in sys.modules if name.startswith(private)]:
    sys.modules[name] = Poisoned(name)
"""
SERVED: Final = """
from servicekit.server.plain_server import PlainServer
from tests.support.grpc.echo import SERVICE, caller, handlers

server = PlainServer([], threads=2)
server.add_methods(SERVICE, handlers(Echo=lambda request, _: request))
with grpc.insecure_channel(f"127.0.0.1:{server.start('127.0.0.1:0')}") as channel:
    print(caller(channel, "Echo")(b"served", timeout=20).decode())
server.drain(1)
"""


def run(program: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_plain_server_serves_where_all_that_is_private_to_grpc_is_gone() -> None:
    found = run(POISONED + SERVED)
    assert (found.returncode, found.stdout) == (0, "served\n"), found.stderr


@pytest.mark.parametrize(
    "module", ["recsvc.app", "recsvc.__main__", "servicekit.server.grpc_server", "bridge.__main__"]
)
def test_programs_are_imported_where_all_that_is_private_to_grpc_is_gone(module: str) -> None:
    """The direct server is imported when it is asked for."""
    found = run(f"{POISONED}import {module}")
    assert found.returncode == 0, found.stderr


def test_the_direct_server_is_what_needs_it() -> None:
    """Else the tests above would show nothing."""
    found = run(f"{POISONED}import servicekit.server.thread_server")
    assert found.returncode == 1
    assert "has no" in found.stderr


class Watching:
    """A method that tells whether its caller listens."""

    def __init__(self) -> None:
        self.left = threading.Event()
        self.seen: list[dict[str, str]] = []
        self.identity: list[Any] = []

    def stream(self, request: bytes, context: Any) -> Iterator[bytes]:
        self.seen.append(caller_of(context))
        self.identity.append(dict(context.auth_context()))
        context.add_callback(self.left.set)
        yield request
        wait_for(lambda: not context.is_active(), what="the caller leaves")


@pytest.mark.parametrize("kind", KINDS)
def test_handlers_know_who_called_and_when_he_leaves(kind: str) -> None:
    watching = Watching()
    server = KINDS[kind]([], threads=2)
    methods: Any = {"Stream": grpc.unary_stream_rpc_method_handler(watching.stream)}
    server.add_methods(SERVICE, methods | handlers(Echo=lambda request, _: request))
    with grpc.insecure_channel(f"127.0.0.1:{server.start('127.0.0.1:0')}", LOCAL) as channel:
        many: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(f"/{SERVICE}/Stream")
        call = many(b"one", timeout=60)
        assert next(call) == b"one"
        call.cancel()
        assert watching.left.wait(20)
        assert caller(channel, "Echo")(b"next", timeout=20) == b"next"
    server.drain(5)
    assert watching.seen[0]["peer"].startswith("ipv4:127.0.0.1:")
    assert all(isinstance(key, str) for key in watching.identity[0])
