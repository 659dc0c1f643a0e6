"""Pages stay full whatever is hidden."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.feed.page_maker import Reserve
from tests.bridge.catalogue.support.catalogue_bridge import CatalogueBridge, running_catalogue
from tests.bridge.support.fault_server import CATALOGUE, FaultServer, running_fault_server
from videowindow.feed.v1 import feed_pb2 as pb


def test_nothing_is_asked_for_beyond_a_page_while_nothing_is_left_out() -> None:
    reserve = Reserve()
    for _ in range(100):
        reserve.note(20, 0)
    assert reserve.of(20) == 0


def test_about_twice_of_what_was_left_out_is_asked_for_and_soon_forgotten() -> None:
    reserve = Reserve()
    for _ in range(100):
        reserve.note(20, 2)
    assert reserve.of(20) == 4
    assert reserve.of(500) == 0
    for _ in range(150):
        reserve.note(20, 0)
    assert reserve.of(20) == 0
    for _ in range(200):
        reserve.note(20, 20)
    assert reserve.of(20) == 20


@pytest.fixture(scope="module")
async def recsvc() -> AsyncIterator[FaultServer]:
    async with running_fault_server() as faults:
        yield faults


@pytest.fixture(scope="module")
async def bridge(
    postgres_url: str, recsvc: FaultServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[CatalogueBridge]:
    folder: Path = tmp_path_factory.mktemp("pages")
    async with running_catalogue(postgres_url, None, folder, recsvc.address) as running:
        yield running


async def test_a_page_is_filled_up(bridge: CatalogueBridge, recsvc: FaultServer) -> None:
    """At first with what is trending, then with what recsvc is asked for beyond it."""
    await bridge.hide("v001", "v003")
    first = await bridge.page()
    assert [one.video_id for one in first.videos] == ["v000", "v002", "v004", "t000", "t001"]
    assert first.served_by == pb.SERVED_BY_LIGHTFM
    assert [one.score for one in first.videos] == sorted((one.score for one in first.videos), reverse=True)
    for _ in range(60):
        page = await bridge.page()
        assert len(page.videos) == 5
    assert [one.video_id for one in page.videos] == ["v000", "v002", "v004", "v005", "v006"]
    assert 5 < recsvc.requests[-1].page_size <= 10
    assert page.next_page_token
    following = await bridge.ids(page_token=page.next_page_token)
    assert following[:2] == ["v007", "v008"]


async def test_a_feed_whose_videos_are_all_hidden_is_of_what_is_trending(bridge: CatalogueBridge) -> None:
    await bridge.hide(*CATALOGUE)
    page = await bridge.page()
    assert [one.video_id for one in page.videos] == [f"t{n:03}" for n in range(5)]
    assert page.fallback_reason == pb.FALLBACK_REASON_EXHAUSTED
    await bridge.hide(*[f"t{n:03}" for n in range(57)])
    assert await bridge.ids() == ["t057", "t058", "t059"]
    assert await bridge.trending() == ["t057", "t058", "t059"]
