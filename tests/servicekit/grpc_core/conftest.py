"""A server of each kind with methods that wait for a gate."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from servicekit.server.threaded import ThreadedServer
from tests.servicekit.support.unary_calls import LOCAL, THREADS, Gate, echo, leave, metadata, unsendable, variable
from tests.support.grpc.echo import SERVICE, handlers
from tests.support.grpc.thread_servers import KINDS


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
