"""A page's way through the bridge stays short."""

from collections.abc import AsyncIterator

import pytest

from tests.bridge.support.feed_bridge import Bridge, running_bridge
from tests.support.dogstatsd import DogStatsdServer
from tests.support.walk import Length, Walk, traced

pytestmark = pytest.mark.peer

MAX_MODULES = 18
MAX_HOPS = 48


@pytest.fixture
async def bridge() -> AsyncIterator[tuple[Bridge, Walk]]:
    with DogStatsdServer() as agent, traced() as walk:
        async with running_bridge(agent) as running:
            yield running, walk


async def test_a_page_passes_few_modules(bridge: tuple[Bridge, Walk]) -> None:
    running, walk = bridge
    await running.page()  # what is computed once is computed
    paths = []
    for _ in range(3):
        with walk.recorded():
            await running.page()
        paths.append(walk.path("bridge/feed/service"))
    path = min(paths, key=len)
    length = Length.of(path)
    assert length.modules <= MAX_MODULES, path
    assert length.hops <= MAX_HOPS, path
