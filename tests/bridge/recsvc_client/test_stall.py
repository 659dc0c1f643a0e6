"""After a stall of recsvc, its protections and the bridge's let each other come back: real servers, under load."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest

from bridge.domain.page import Page
from bridge.recsvc_client.channel import open_channel, warm_up
from bridge.recsvc_client.circuit_breaker import BreakerPolicy
from bridge.recsvc_client.client import RecsvcClient
from bridge.recsvc_client.hedging import Hedge, HedgePolicy
from recsvc.grpc_api.load_shedding import with_shedding
from servicekit.server.thread_server import ThreadServer
from tests.bridge.support.fault_server import SERVICE
from tests.bridge.support.recsvc_client import ask, recsvc_client
from tests.bridge.support.waiting import until
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb

pytestmark = pytest.mark.peer

BUDGET_S = 0.15
IN_ROW = 50
THREADS = 4
STALL_S = 3.0
"""Long enough to be believed, should one answer teach as much as it likes."""
OPEN_S = 3.0
"""A pause between probes so long that protections that need several probes are not back within the test's patience."""


class Server:
    """A recsvc with its shedding, that stands still when told."""

    def __init__(self) -> None:
        self.well = threading.Event()
        self.well.set()
        self.waiting = 0
        self._rpc = ThreadServer([SERVICE], threads=THREADS, decorators=[with_shedding])
        handler = grpc.unary_unary_rpc_method_handler(
            self._recommend, pb.RecommendRequest.FromString, pb.RecommendResponse.SerializeToString
        )
        self._rpc.add_methods(SERVICE, {"Recommend": handler})
        self.port = self._rpc.start("127.0.0.1:0")

    def _recommend(self, request: pb.RecommendRequest, _: grpc.ServicerContext) -> pb.RecommendResponse:
        if not self.well.is_set():
            self.waiting += 1
            self.well.wait(60)
        return pb.RecommendResponse(videos=[pb.ScoredVideo(video_id=request.user_id, score=1)], model_version="1")

    def end(self) -> None:
        self.well.set()
        self._rpc.drain(0)


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    found = [Server() for _ in range(2)]
    yield found
    for one in found:
        one.end()


class Load:
    """Calls that begin every ten milliseconds, whatever becomes of those before, and what the last ones came to."""

    def __init__(self, client: RecsvcClient) -> None:
        self._client = client
        self.last: deque[bool] = deque(maxlen=IN_ROW)

    @property
    def replicas(self) -> int:
        return self._client.replicas

    async def run(self) -> None:
        async with asyncio.TaskGroup() as calls:
            while True:
                calls.create_task(self._call())
                await asyncio.sleep(0.01)

    async def _call(self) -> None:
        self.last.append(isinstance(await ask(self._client, BUDGET_S, page_size=1), Page))

    def is_personal(self) -> bool:
        return len(self.last) == IN_ROW and all(self.last)


@pytest.fixture(params=[1, 2], ids=["one replica", "two replicas"])
async def load(servers: list[Server], request: pytest.FixtureRequest) -> AsyncIterator[Load]:
    channels = [open_channel(f"127.0.0.1:{one.port}", None) for one in servers[: request.param]]
    assert all([await warm_up(channel, 5) for channel in channels])
    load = Load(recsvc_client(*channels, breaker=BreakerPolicy(open_s=OPEN_S), hedge=Hedge(HedgePolicy())))
    running = asyncio.create_task(load.run())
    yield load
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    for channel in channels:
        await channel.close()


async def test_pages_are_personal_again_after_a_stall(servers: list[Server], load: Load) -> None:
    await until(load.is_personal)
    for one in servers:
        one.well.clear()
    used = servers[: load.replicas]
    await until(lambda: all(one.waiting >= THREADS - 1 for one in used))
    await asyncio.sleep(STALL_S)  # nothing to wait for: the fault itself lasts so long
    assert not any(load.last)

    for one in servers:
        one.well.set()

    await until(load.is_personal, timeout_s=20)
