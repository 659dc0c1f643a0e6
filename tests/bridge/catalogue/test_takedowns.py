"""Hides and restorations over two bridges, through outages of everything that they are kept in."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from grpc import StatusCode, aio

from deploy.local.kafka.mock import MockKafka
from deploy.local.postgres import Postgres
from tests.bridge.catalogue.support.catalogue_bridge import CatalogueBridge, running_catalogue
from tests.bridge.support.events import is_temporary
from tests.bridge.support.fault_server import CATALOGUE, FaultServer, running_fault_server
from tests.bridge.support.waiting import until
from videowindow.feed.v1 import catalogue_pb2 as pb

POSTGRES, KAFKA = pb.DURABLE_ON_POSTGRES, pb.DURABLE_ON_KAFKA


@pytest.fixture
async def recsvc() -> AsyncIterator[FaultServer]:
    async with running_fault_server() as faults:
        yield faults


@asynccontextmanager
async def two_bridges(
    url: str, bootstrap: str | None, folder: Path, recsvc: FaultServer
) -> AsyncIterator[tuple[CatalogueBridge, CatalogueBridge]]:
    async with (
        running_catalogue(url, bootstrap, folder / "a", recsvc.address) as one,
        running_catalogue(url, bootstrap, folder / "b", recsvc.address) as other,
    ):
        yield one, other


async def test_a_hidden_video_leaves_the_pages_of_all_bridges(
    postgres_url: str, kafka_bootstrap: str, tmp_path: Path, recsvc: FaultServer
) -> None:
    async with two_bridges(postgres_url, kafka_bootstrap, tmp_path, recsvc) as (one, other):
        before = await other.page()
        assert [video.video_id for video in before.videos] == [*CATALOGUE[:5]]
        (result,) = await one.hide("v001")
        assert (result.id, result.hidden.created, result.hidden.durable_on) == ("v001", True, POSTGRES)
        assert await one.ids() == ["v000", "v002", "v003", "v004", "t000"]
        await other.until_hidden("v001")
        assert (await other.ids())[:4] == ["v000", "v002", "v003", "v004"]
        await one.hide("v007")
        await other.until_hidden("v007")
        following = await other.page(page_token=before.next_page_token)
        assert "v007" not in [video.video_id for video in following.videos]
        assert len(following.videos) == 5
        lifted = await other.restore("v001", result.hidden.revision)
        assert lifted.restored.changed
        assert "v001" in await other.ids()
        await one.until_shown("v001")
        assert not before.HasField("hidden_as_of")


async def test_hides_and_restorations_may_be_repeated(
    postgres_url: str, kafka_bootstrap: str, tmp_path: Path, recsvc: FaultServer
) -> None:
    async with running_catalogue(postgres_url, kafka_bootstrap, tmp_path / "a", recsvc.address) as bridge:
        first = (await bridge.hide("r1", reason="first"))[0].hidden
        again = (await bridge.hide("r1", reason="second", actor="eve"))[0].hidden
        assert (again.revision, again.created) == (first.revision, False)
        stored = await bridge.get("r1")
        assert (stored.hidden.reason, stored.hidden.actor, stored.hidden.revision) == ("first", "ann", first.revision)
        assert (await bridge.restore("r1", first.revision)).restored.changed
        assert not (await bridge.restore("r1", first.revision)).restored.changed
        later = (await bridge.hide("r1"))[0].hidden
        assert later.revision > first.revision
        refused = (await bridge.restore("r1", first.revision)).error
        assert refused.reason == "HIDE_SUPERSEDED"
        assert str(later.revision) in refused.message
        assert (await bridge.restore("r1", later.revision + 1000)).error.code == StatusCode.NOT_FOUND.value[0]
        assert (await bridge.restore("unknown", 1)).error.code == StatusCode.NOT_FOUND.value[0]
        rows = await bridge.rows("SELECT reason, actor, hidden FROM video_visibility WHERE video_id = 'r1'")
        assert rows == [("rights", "ann", True)]


async def test_a_hidden_author_takes_all_videos_along_also_later_ones(
    postgres_url: str, kafka_bootstrap: str, tmp_path: Path, recsvc: FaultServer
) -> None:
    async with two_bridges(postgres_url, kafka_bootstrap, tmp_path, recsvc) as (one, other):
        await one.upsert(
            *[pb.CatalogueVideo(video_id=name, author_id="a1") for name in ("v010", "v011")],
            pb.CatalogueVideo(video_id="v012", author_id="a2"),
        )
        await one.hide("v010")
        (result,) = await one.hide_authors("a1")
        for bridge in (one, other):
            await bridge.until_hidden("v010", "v011")
            assert bridge.shows("v012")
        await other.upsert(
            pb.CatalogueVideo(video_id="v012", author_id="a1"), pb.CatalogueVideo(video_id="v011", author_id="a3")
        )
        for bridge in (one, other):
            await bridge.until_hidden("v012")
            await bridge.until_shown("v011")
        await one.hide_authors("ta0")  # who has no video in the catalogue, but some that are trending
        assert "t000" not in await one.trending()
        await one.restore_author("a1", result.hidden.revision)
        for bridge in (one, other):
            await bridge.until_shown("v012")
            assert bridge.hides("v010")  # its own hide stands


async def test_postgres_away(own_postgres: Postgres, kafka_bootstrap: str, tmp_path: Path, recsvc: FaultServer) -> None:
    """Kafka takes hides, all bridges obey, upserts and restorations wait; Postgres has the hide when it is back."""
    name, url = f"v-{uuid4()}", own_postgres.url("videowindow")
    async with two_bridges(url, kafka_bootstrap, tmp_path, recsvc) as (one, other):
        await one.upsert(pb.CatalogueVideo(video_id=name))
        hide = (await one.hide(name))[0].hidden
        await one.restore(name, hide.revision)
        assert own_postgres.child is not None
        own_postgres.child.kill()
        (result,) = await one.hide(name)
        assert (result.hidden.durable_on, result.hidden.revision, result.hidden.created) == (KAFKA, 0, True)
        (repeat,) = await one.hide(name)
        assert (repeat.hidden.durable_on, repeat.hidden.created) == (KAFKA, False)
        await other.until_hidden(name)
        for call in (
            one.upsert(pb.CatalogueVideo(video_id=name)),
            one.restore(name, hide.revision),
            one.get(name),
            one.catalogue.ListVideos(pb.ListVideosRequest(), timeout=20),
        ):
            with pytest.raises(aio.AioRpcError) as caught:
                await call
            is_temporary(caught.value)
        own_postgres.start()
        await until(one.database.ready.is_set)

        async def stored() -> pb.StoredVideo:
            while True:
                try:
                    found = await one.get(name)
                except aio.AioRpcError:
                    found = pb.StoredVideo()
                if found.HasField("hidden"):
                    return found
                await asyncio.sleep(0.1)

        found = await asyncio.wait_for(stored(), 60)
        assert found.hidden.revision > hide.revision
        assert (found.hidden.reason, found.hidden.actor) == ("rights", "ann")
        for bridge in (one, other):
            assert bridge.hides(name)
        assert (await one.restore(name, hide.revision)).error.reason == "HIDE_SUPERSEDED"
        assert (await one.restore(name, found.hidden.revision)).restored.changed
        for bridge in (one, other):
            await bridge.until_shown(name)


async def test_kafka_away(postgres_url: str, own_kafka: MockKafka, tmp_path: Path, recsvc: FaultServer) -> None:
    async with two_bridges(postgres_url, own_kafka.bootstrap, tmp_path, recsvc) as (one, other):
        assert own_kafka.child is not None
        own_kafka.child.kill()
        (result,) = await one.hide("v020")
        assert result.hidden.durable_on == POSTGRES
        await other.until_hidden("v020")
        assert not (await other.page()).HasField("hidden_as_of")


async def test_both_away(own_postgres: Postgres, own_kafka: MockKafka, tmp_path: Path, recsvc: FaultServer) -> None:
    """Nothing is acknowledged; a bridge that starts then serves by its disk, and says how old that is."""
    url = own_postgres.url("videowindow")
    async with running_catalogue(url, own_kafka.bootstrap, tmp_path / "a", recsvc.address) as bridge:
        await bridge.upsert(pb.CatalogueVideo(video_id="v031", author_id="a30"))
        await bridge.hide("v030")
        await bridge.hide_authors("a30")
        await bridge.until_hidden("v030", "v031")
    assert own_kafka.child is not None
    assert own_postgres.child is not None
    own_kafka.child.kill()
    own_postgres.child.kill()
    async with running_catalogue(
        url, own_kafka.bootstrap, tmp_path / "a", recsvc.address, wait_for_schema=False
    ) as bridge:
        assert bridge.hides("v030", "v031")
        page = await bridge.page()
        assert page.HasField("hidden_as_of")
        with pytest.raises(aio.AioRpcError) as caught:
            await bridge.hide("v032", timeout_s=3)
        is_temporary(caught.value)
        assert bridge.shows("v032")
        own_postgres.start()
        await until(bridge.database.ready.is_set)
        await until(lambda: bridge.hidden.as_of is None)
        assert not (await bridge.page()).HasField("hidden_as_of")
        assert (await bridge.hide("v032"))[0].hidden.durable_on == POSTGRES


async def test_a_hide_of_kafka_alone_survives_a_restart_with_both_away(
    own_postgres: Postgres, own_kafka: MockKafka, tmp_path: Path, recsvc: FaultServer
) -> None:
    url = own_postgres.url("videowindow")
    async with running_catalogue(url, own_kafka.bootstrap, tmp_path / "a", recsvc.address) as bridge:
        assert own_postgres.child is not None
        own_postgres.child.kill()
        assert (await bridge.hide("v040"))[0].hidden.durable_on == KAFKA
    assert own_kafka.child is not None
    own_kafka.child.kill()
    async with running_catalogue(
        url, own_kafka.bootstrap, tmp_path / "a", recsvc.address, wait_for_schema=False
    ) as bridge:
        assert bridge.hides("v040")


@pytest.mark.parametrize("away", ["postgres", "kafka"])
async def test_a_restart_while_one_of_them_is_away(
    own_postgres: Postgres, own_kafka: MockKafka, tmp_path: Path, recsvc: FaultServer, away: str
) -> None:
    """What was hidden stays hidden, and the next hide is taken."""
    url = own_postgres.url("videowindow")
    async with running_catalogue(url, own_kafka.bootstrap, tmp_path / "a", recsvc.address) as bridge:
        await bridge.hide("v000")
        child = own_postgres.child if away == "postgres" else own_kafka.child
        assert child is not None
        child.kill()
    async with running_catalogue(
        url, own_kafka.bootstrap, tmp_path / "a", recsvc.address, wait_for_schema=False
    ) as bridge:
        assert await bridge.ids() == ["v001", "v002", "v003", "v004", "t000"]
        (result,) = await bridge.hide("v001")
        assert result.hidden.durable_on == (KAFKA if away == "postgres" else POSTGRES)
        assert not {"v000", "v001"} & {*await bridge.ids()}


async def test_without_kafka(postgres_url: str, tmp_path: Path, recsvc: FaultServer) -> None:
    async with two_bridges(postgres_url, None, tmp_path, recsvc) as (one, other):
        await one.hide("v050")
        await other.until_hidden("v050")
