"""The trending ranking, computed by Postgres."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.background import background
from bridge.database import Database, DatabaseUnavailableError
from bridge.page import VideoFilter
from bridge.trending import TrendingBoard
from bridge.trending_ranking import TrendingPolicy, compute_trending
from bridge.trending_refresher import TrendingRefresher
from deploy.local.postgres import Postgres
from tests.bridge.waiting import until

THEN = datetime(2022, 4, 30, tzinfo=UTC)
"""Long ago, as imported history is: what counts is the age beside the newest event."""
POLICY = TrendingPolicy(half_life_s=3600, window_s=10 * 3600, unknown_videos=True)


@pytest.fixture(scope="module")
async def pool(postgres_url: str) -> AsyncIterator[Database]:
    database = Database(postgres_url)
    await database.open()
    async with background("schema", database.keep_schema):
        await until(database.ready.is_set)
        yield database
    await database.close()


@pytest.fixture
async def database(pool: Database) -> Database:
    async with pool.connection() as connection:
        await connection.execute("TRUNCATE user_interactions, videos")
    return pool


async def _add(
    database: Database, user: str, video: str, kind: str, *, hours: float = 0, watch_ms: int = 0, rating: float = 0
) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO user_interactions (user_id, video_id, interaction_type, occurred_at, watch_time_ms, rating)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            [user, video, kind, THEN - timedelta(hours=hours), watch_ms, rating],
        )


async def _scores(database: Database, policy: TrendingPolicy = POLICY) -> dict[str, float]:
    trending = await compute_trending(database, policy, THEN)
    return {video.ranked.video_id: round(video.ranked.score, 6) for video in trending.videos}


async def test_empty_table(database: Database) -> None:
    assert await _scores(database) == {}


async def test_decay_of_history_is_relative_to_its_newest_event(database: Database) -> None:
    """Each half-life halves; what is older than the window does not count; equal scores go by id."""
    for video, hours in (("now", 0), ("now2", 0), ("old", 1), ("older", 2), ("gone", 10)):
        await _add(database, "u1", video, "like", hours=hours)
    scores = await _scores(database)
    assert scores == {"now": 3.0, "now2": 3.0, "old": 1.5, "older": 0.75}
    assert list(scores) == ["now", "now2", "old", "older"]


async def test_each_viewer_counts_once(database: Database) -> None:
    for _ in range(50):
        await _add(database, "bot", "pushed", "share")
    await _add(database, "u1", "loved", "share")
    await _add(database, "u2", "loved", "share")
    assert await _scores(database) == {"loved": 8.0, "pushed": 4.0}


async def test_watching_counts_by_completion(database: Database) -> None:
    """Of the video's length where the catalogue has it, else of half a minute; more than all of it is all of it."""
    async with database.connection() as connection:
        await connection.execute("INSERT INTO videos (video_id, duration_ms) VALUES ('long', 60000), ('zero', 0)")
    await _add(database, "u1", "long", "watch", watch_ms=15_000)
    await _add(database, "u1", "unknown", "watch", watch_ms=15_000)
    await _add(database, "u1", "zero", "watch", watch_ms=24_000)
    await _add(database, "u1", "again", "watch", watch_ms=10_000_000)
    assert await _scores(database) == {"again": 1.0, "zero": 0.8, "unknown": 0.5, "long": 0.25}


async def test_dislikes_count_against(database: Database) -> None:
    await _add(database, "u1", "divisive", "like")
    await _add(database, "u2", "divisive", "hide")
    await _add(database, "u1", "bad", "hide")
    await _add(database, "u1", "rated", "rating", rating=5)
    await _add(database, "u1", "panned", "rating", rating=1)
    assert await _scores(database) == {"rated": 3.0, "divisive": 1.0, "panned": 0.6}


async def test_top_n_with_the_catalogue(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO videos VALUES"
            " ('v1', 'a', '{x,y}', 5, '2022-04-01T00:00:00.000001Z'), ('v2', NULL, '{}', NULL, NULL)"
        )
    for video, likes in (("v1", 3), ("v2", 2), ("v3", 1), ("v4", 0)):
        for user in range(likes + 1):
            await _add(database, f"u{user}", video, "like")
    trending = await compute_trending(database, TrendingPolicy(most=3, unknown_videos=True), THEN)
    first, second, third = trending.videos
    assert [video.ranked.video_id for video in trending.videos] == ["v1", "v2", "v3"]
    assert (first.author_id, first.tags, first.duration_ms) == ("a", ("x", "y"), 5)
    assert first.published_at_us == int(datetime(2022, 4, 1, tzinfo=UTC).timestamp()) * 10**6 + 1
    assert (second.author_id, second.tags, second.duration_ms, second.published_at_us) == ("", (), None, None)
    assert (third.author_id, third.tags) == ("", ())


def _refresher(board: TrendingBoard, database: Database, path: Path) -> TrendingRefresher:
    return TrendingRefresher(board, database, POLICY, path=path, interval_s=0.05, now=lambda: THEN)


def _served(board: TrendingBoard) -> list[str]:
    return [video.video_id for video in board.page(10).videos]


async def test_refresh_and_cold_start(database: Database, tmp_path: Path) -> None:
    """A ranking appears as soon as there is something to rank, follows what happens, and outlives the program."""
    path, board = tmp_path / "trending.json", TrendingBoard()
    refresher = _refresher(board, database, path)
    refresher.restore()
    async with background("trending", refresher.keep_fresh):
        await _add(database, "u1", "v1", "like")
        await until(lambda: _served(board) == ["v1"])
        await _add(database, "u1", "v2", "share")
        await until(lambda: _served(board) == ["v2", "v1"])
        await until(lambda: path.exists() and "v2" in path.read_text())
    after = TrendingBoard()
    _refresher(after, Database("postgresql://127.0.0.1:1/none"), path).restore()
    assert _served(after) == ["v2", "v1"]


async def test_rankings_take_a_tenth_of_a_core_at_most(database: Database, tmp_path: Path) -> None:
    """Their work grows with the interactions: Postgres is locked out of them for 0.2 s, so the next waits for 1.8 s."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0.001)

    await _add(database, "u1", "v1", "like")
    refresher = TrendingRefresher(
        TrendingBoard(), database, POLICY, path=tmp_path / "trending.json", interval_s=0.5, sleep=sleep
    )
    async with background("trending", refresher.keep_fresh):
        await until(lambda: len(waits) > 0)
        async with database.connection() as connection:
            await connection.execute("LOCK TABLE user_interactions IN ACCESS EXCLUSIVE MODE")
            await asyncio.sleep(0.2)
        await until(lambda: max(waits) >= 9 * 0.19)
    assert min(waits) >= 0.5


async def test_last_ranking_survives_an_outage(own_postgres: Postgres, tmp_path: Path) -> None:
    database, board = Database(own_postgres.url("videowindow")), TrendingBoard()
    await database.open()
    refresher = _refresher(board, database, tmp_path / "trending.json")
    async with background("schema", database.keep_schema), background("trending", refresher.keep_fresh):
        await until(database.ready.is_set)
        await _add(database, "u1", "v1", "like")
        await until(lambda: _served(board) == ["v1"])
        assert own_postgres.child is not None
        own_postgres.child.kill()
        with pytest.raises(DatabaseUnavailableError):
            await refresher.refresh()
        assert _served(board) == ["v1"]
        own_postgres.start()
        await _add_when_back(database, "v2")
        await until(lambda: _served(board) == ["v2", "v1"], timeout_s=20)
    await database.close()


async def _add_when_back(database: Database, video: str) -> None:
    async def added() -> bool:
        try:
            await _add(database, "u1", video, "share")
        except Exception:  # noqa: BLE001  # the pool has yet to find the server
            return False
        return True

    deadline = asyncio.get_running_loop().time() + 20
    while not await added():
        assert asyncio.get_running_loop().time() < deadline


@pytest.mark.parametrize("content", ["", "{}", "nonsense"])
async def test_bad_snapshot_starts_empty(database: Database, tmp_path: Path, content: str) -> None:
    path, board = tmp_path / "trending.json", TrendingBoard()
    path.write_text(content)
    _refresher(board, database, path).restore()
    assert board.current is None


async def test_unwritable_snapshot_does_not_stop_the_ranking(database: Database, tmp_path: Path) -> None:
    board: Any = TrendingBoard()
    (tmp_path / "file").write_text("")
    await _add(database, "u1", "v1", "like")
    await _refresher(board, database, tmp_path / "file" / "trending.json").refresh()
    assert _served(board) == ["v1"]


async def test_rare_tags_are_ranked_deep(database: Database) -> None:
    """The best videos of each tag are in the ranking, however many others are more popular."""
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO videos (video_id, tags) SELECT 'v' || n, ARRAY['common'] FROM generate_series(1, 9) n"
            " UNION ALL SELECT 'rare' || n, ARRAY['rare', 'odd'] FROM generate_series(1, 4) n"
        )
    for number in range(1, 10):
        await _add(database, "u1", f"v{number}", "share")
    for number in range(1, 5):
        await _add(database, "u1", f"rare{number}", "watch", watch_ms=30_000 - number)
    trending = await compute_trending(database, replace(POLICY, most=3, most_of_tag=2), THEN)
    assert [video.ranked.video_id for video in trending.videos] == ["v1", "v2", "v3", "rare1", "rare2"]
    page = trending.page(5, video_filter=VideoFilter(any_tags=("rare", "odd")))
    assert [video.video_id for video in page.videos] == ["rare1", "rare2"]


async def test_surfaces_have_their_own_order(database: Database) -> None:
    """What was done on a surface, by the page that led to it, counts more there; elsewhere nothing changes."""
    await _add(database, "u1", "everywhere", "share")
    await _add(database, "u2", "everywhere", "like")
    async with database.connection() as connection:
        await connection.execute("TRUNCATE feed_cache")
        await connection.execute(
            "INSERT INTO feed_cache VALUES (now(), 's1', 1, 'u3', 'explore', '', '', '', '', '', '{}')"
        )
        await connection.execute(
            "INSERT INTO user_interactions (user_id, video_id, interaction_type, occurred_at, feed_session_id)"
            " VALUES ('u3', 'explored', 'like', %s, 's1'), ('u4', 'lost', 'like', %s, 's2')",
            [THEN, THEN],
        )
    trending = await compute_trending(database, POLICY, THEN)
    orders = {name: [one.ranked.video_id for one in trending.at(name).videos] for name in ("", "explore", "other")}
    plain = ["everywhere", "explored", "lost"]
    assert orders == {"": plain, "other": plain, "explore": ["explored", "everywhere", "lost"]}
    scores = [one.ranked.score for one in trending.at("explore").videos]
    assert scores == sorted(scores, reverse=True)
