"""A bridge whose recsvc does as it is told."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.bridge.support.feed_bridge import Bridge, running_bridge
from tests.support.dogstatsd import DogStatsdServer


@pytest.fixture(scope="module")
def agent() -> Iterator[DogStatsdServer]:
    with DogStatsdServer() as server:
        yield server


@pytest.fixture
async def bridge(agent: DogStatsdServer) -> AsyncIterator[Bridge]:
    async with running_bridge(agent) as running:
        yield running
