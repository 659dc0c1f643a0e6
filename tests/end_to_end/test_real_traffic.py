"""Real short-video traffic from exports to pages; trained briefly, as its quality is judged elsewhere."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import duckdb
import pytest

from deploy.local.data_folder import DataSet
from tests.support.grpc.grpcurl import Grpcurl
from tests.support.system import FEED, MODELS, System, running

HISTORY: Final = 'SELECT watched FROM read_parquet(?) WHERE "userId" = ?'


@pytest.fixture(scope="module")
def system(
    shared_data: Path,
    postgres_url: str,
    kafka_bootstrap: str,
    grpcurl: Grpcurl,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[System]:
    """The system over KuaiRand."""
    folder = tmp_path_factory.mktemp("real_traffic")
    brief = {"RETRAIN_FACTORS": "32", "RETRAIN_EPOCHS": "2"}
    with running(folder, DataSet(shared_data / "kuairand"), postgres_url, kafka_bootstrap, grpcurl, **brief) as system:
        yield system


def ids(page: dict[str, Any]) -> list[str]:
    return [video["video_id"] for video in page.get("videos", [])]


def watched_before(system: System, user: str) -> set[str]:
    with duckdb.connect() as engine:
        row = engine.execute(HISTORY, [str(system.data.folder / "history.parquet"), user]).fetchone()
    return set(row[0]) if row else set()


def test_every_user_and_video_is_known(system: System) -> None:
    model = system.grpcurl(system.recsvc.address, f"{MODELS}/GetModel").message["model"]
    assert int(model["video_count"]) == 7583
    assert int(model["user_count"]) >= 26_000
    assert model["metrics"]["lightfm.ndcg@20"] > model["metrics"]["popularity.ndcg@20"]


def test_earlier_exposures_are_never_shown_again(system: System) -> None:
    """Neither those of the exports nor those of the history before them, over five pages of 50."""
    for user in system.users(3):
        seen = system.seen_by(user) | watched_before(system, user)
        assert len(seen) > 50
        shown: list[str] = []
        token = ""
        for _ in range(5):
            page = system.feed(user_id=user, page_size=50, page_token=token).message
            assert page["served_by"] == "SERVED_BY_LIGHTFM"
            shown += ids(page)
            token = page["next_page_token"]
        assert len(shown) == len(set(shown)) == 250
        assert not seen & set(shown)


def test_trending_knows_the_history(system: System) -> None:
    page = system.grpcurl(system.bridge.address, f"{FEED}/GetTrending", {"page_size": 20}).message
    assert len(ids(page)) == 20


def test_a_filter_by_the_catalogue(system: System) -> None:
    page = system.recommend(user_id=system.users(1)[0], filter={"any_tags": ["39"], "max_duration_ms": 60_000}).message
    with duckdb.connect() as engine:
        query = 'SELECT tags, "durationMs" FROM read_parquet(?) WHERE list_contains(?, "videoId")'
        rows = engine.execute(query, [str(system.data.videos), ids(page)]).fetchall()
    assert len(rows) == len(ids(page)) > 0
    assert all("39" in tags and duration <= 60_000 for tags, duration in rows)
