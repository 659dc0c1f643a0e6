"""Calls to several real replicas, of which some fail."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from grpc import StatusCode

from bridge.domain.page import Page
from bridge.recsvc_client.client import GaveUp, RecsvcClient
from bridge.recsvc_client.hedging import Hedge, HedgePolicy
from bridge.recsvc_client.replicas import ReplicaSet, resolve_by_dns, static_targets
from tests.bridge.support.fault_server import FaultServer, Step, running_fault_server
from tests.bridge.support.recsvc_client import ask, recsvc_client
from tests.bridge.support.waiting import until

pytestmark = pytest.mark.peer

HUNG = Step(delay_s=5)


@dataclass
class Pair:
    """Two replicas and a caller of them."""

    one: FaultServer
    two: FaultServer
    client: RecsvcClient

    async def call(self) -> Page | GaveUp:
        return await ask(self.client, 0.15)

    @property
    def attempts(self) -> int:
        return len(self.one.requests) + len(self.two.requests)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(running_fault_server())
        two = await stack.enter_async_context(running_fault_server())
        client = recsvc_client(hedge=Hedge(HedgePolicy(initial_s=0.03)))
        replica_set = ReplicaSet(client, f"{one.address},{two.address}", None)
        stack.push_async_callback(replica_set.close)
        assert await replica_set.warm_up(5)
        yield Pair(one, two, client)


async def test_calls_are_shared(pair: Pair) -> None:
    for _ in range(20):
        assert isinstance(await pair.call(), Page)
    assert len(pair.one.requests) == len(pair.two.requests) == 10


async def test_hung_replica_costs_no_personal_page(pair: Pair) -> None:
    """Its calls get a rival at the other replica, within the budget, and it soon rests."""
    pair.one.play(otherwise=HUNG)
    outcomes = [await pair.call() for _ in range(30)]
    assert all(isinstance(outcome, Page) for outcome in outcomes)
    assert max(outcome.attempts for outcome in outcomes) == 2
    assert pair.attempts <= 36


async def test_failing_replica_is_left_alone(pair: Pair) -> None:
    """The retry goes to the other replica, and the next calls go there at once."""
    pair.one.play(otherwise=Step(StatusCode.UNAVAILABLE))
    outcomes = [await pair.call() for _ in range(20)]
    assert all(isinstance(outcome, Page) for outcome in outcomes)
    assert len(pair.one.requests) == 1


async def test_attempts_never_exceed_three(pair: Pair) -> None:
    for server in (pair.one, pair.two):
        server.play(otherwise=Step(StatusCode.UNAVAILABLE, delay_s=0.035))
    outcome = await pair.call()
    assert isinstance(outcome, GaveUp)
    assert outcome.attempts == pair.attempts <= 3


async def test_both_hung_end_by_the_deadline(pair: Pair) -> None:
    for server in (pair.one, pair.two):
        server.play(otherwise=HUNG)
    started = time.monotonic()
    assert isinstance(await pair.call(), GaveUp)
    assert time.monotonic() - started < 2
    assert pair.attempts == 2


async def test_budget_bounds_rivals(pair: Pair) -> None:
    """When every reply is slow, rivals are made for a share of the calls only."""
    for server in (pair.one, pair.two):
        server.play(otherwise=Step(delay_s=0.045))
    for _ in range(8):
        await asyncio.gather(*[pair.call() for _ in range(5)])
    assert pair.attempts <= 40 + 10 + 0.15 * 40


async def test_connections_are_told_of() -> None:
    """A replica that goes and comes back is connected to without any call."""
    connections: list[float] = []
    async with running_fault_server() as faults:
        replica_set = ReplicaSet(
            recsvc_client(), faults.address, None, on_connected=lambda: connections.append(time.monotonic())
        )
        await until(lambda: connections)
    async with running_fault_server(port=faults.port):
        await until(lambda: len(connections) == 2)
        await replica_set.close()


async def test_each_address_gets_as_many_connections_as_asked_for() -> None:
    connections: list[float] = []
    async with running_fault_server() as faults:
        client = recsvc_client()
        replica_set = ReplicaSet(
            client, faults.address, None, connections=3, on_connected=lambda: connections.append(time.monotonic())
        )
        await until(lambda: len(connections) == 3)
        assert client.replicas == 3
        assert _connections_to(faults.port) == 3
        await replica_set.close()


def _connections_to(port: int) -> int:
    """Return how many established connections of this machine lead to a port."""
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]
    return sum(remote.endswith(f":{port:04X}") and state == "01" for _, _, remote, state, *_ in rows)


async def test_addresses_of_a_name_are_followed() -> None:
    """Replicas that appear are called, those that go are not, and a lookup that fails changes nothing."""
    found: list[Sequence[str] | OSError] = [["127.0.0.1", "127.0.0.2"], OSError("no"), ["127.0.0.2"]]

    async def resolve(host: str, port: int) -> Sequence[str]:
        assert (host, port) == ("localhost", 50051)
        answer = found.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    client = recsvc_client()
    replica_set = ReplicaSet(client, "dns:///localhost:50051", None, resolve=resolve)
    sizes = []
    for _ in range(3):
        await replica_set.resolve_once()
        sizes.append(client.replicas)
    assert sizes == [2, 2, 1]
    await replica_set.close()


async def test_name_of_this_machine() -> None:
    async with running_fault_server() as faults:
        client = recsvc_client()
        replica_set = ReplicaSet(client, f"dns:///localhost:{faults.port}", None)
        await replica_set.resolve_once()
        await until(lambda: replica_set.channels)
        page = await ask(client, 5)
        assert isinstance(page, Page)
        assert len(page.videos) == 3
        assert "127.0.0.1" in await resolve_by_dns("localhost", faults.port)
        await replica_set.close()


@pytest.mark.parametrize(
    ("endpoint", "targets"),
    [
        ("127.0.0.1:1", ["127.0.0.1:1"]),
        ("a:1, b:2", ["a:1", "b:2"]),
        ("ipv4:10.0.0.1:1,10.0.0.2:1", ["ipv4:10.0.0.1:1", "ipv4:10.0.0.2:1"]),
        ("ipv6:[::1]:1", ["ipv6:[::1]:1"]),
    ],
)
def test_static_targets(endpoint: str, targets: list[str]) -> None:
    assert static_targets(endpoint) == targets
