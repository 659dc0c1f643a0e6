"""Rankings that follow what happens, and outlive outages and restarts."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bridge.background.supervision import background
from bridge.postgres.pool import Database, DatabaseUnavailableError
from bridge.trending.ranking import CurrentTrending
from bridge.trending.refresher import TrendingRefresher
from bridge.trending.roller import Roller
from deploy.local.postgres import Postgres
from tests.bridge.support.trending import COUNTING, POLICY, THEN, add
from tests.bridge.support.waiting import until


def _roller(database: Database) -> Roller:
    return Roller(database, COUNTING, interval_s=0.05)


def _refresher(board: CurrentTrending, database: Database, path: Path) -> TrendingRefresher:
    return TrendingRefresher(board, database, POLICY, path=path, interval_s=0.05, now=lambda: THEN)


def _served(board: CurrentTrending) -> list[str]:
    return [video.video_id for video in board.page(10).videos]


async def test_refresh_and_cold_start(database: Database, tmp_path: Path) -> None:
    """A ranking appears as soon as there is something to rank, follows what happens, and outlives the program."""
    path, board = tmp_path / "trending.json", CurrentTrending()
    refresher = _refresher(board, database, path)
    refresher.restore()
    counting = background("counts", _roller(database).run)
    async with counting, background("trending", refresher.keep_fresh):
        await add(database, "u1", "v1", "like")
        await until(lambda: _served(board) == ["v1"])
        await add(database, "u1", "v2", "share")
        await until(lambda: _served(board) == ["v2", "v1"])
        await until(lambda: path.exists() and "v2" in path.read_text())
    after = CurrentTrending()
    _refresher(after, Database("postgresql://127.0.0.1:1/none"), path).restore()
    assert _served(after) == ["v2", "v1"]


async def test_rankings_take_a_tenth_of_a_core_at_most(database: Database, tmp_path: Path) -> None:
    """Their work grows with the videos: Postgres is locked out of them for 0.2 s, so the next waits for 1.8 s."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0.001)

    await add(database, "u1", "v1", "like")
    await _roller(database).catch_up()
    refresher = TrendingRefresher(
        CurrentTrending(), database, POLICY, path=tmp_path / "trending.json", interval_s=0.5, sleep=sleep
    )
    async with background("trending", refresher.keep_fresh):
        await until(lambda: len(waits) > 0)
        async with database.connection() as connection:
            await connection.execute("LOCK TABLE trending_scores IN ACCESS EXCLUSIVE MODE")
            await asyncio.sleep(0.2)
        await until(lambda: max(waits) >= 9 * 0.19)
    assert min(waits) >= 0.5


async def test_last_ranking_survives_an_outage(own_postgres: Postgres, tmp_path: Path) -> None:
    database, board = Database(own_postgres.url("videowindow")), CurrentTrending()
    await database.open()
    refresher = _refresher(board, database, tmp_path / "trending.json")
    async with (
        background("schema", database.keep_schema),
        background("counts", _roller(database).run),
        background("trending", refresher.keep_fresh),
    ):
        await until(database.ready.is_set)
        await add(database, "u1", "v1", "like")
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
            await add(database, "u1", video, "share")
        except Exception:  # noqa: BLE001  # the pool has yet to find the server
            return False
        return True

    deadline = asyncio.get_running_loop().time() + 20
    while not await added():
        assert asyncio.get_running_loop().time() < deadline


@pytest.mark.parametrize("content", ["", "{}", "nonsense"])
async def test_bad_snapshot_starts_empty(database: Database, tmp_path: Path, content: str) -> None:
    path, board = tmp_path / "trending.json", CurrentTrending()
    path.write_text(content)
    _refresher(board, database, path).restore()
    assert board.current is None


async def test_unwritable_snapshot_does_not_stop_the_ranking(database: Database, tmp_path: Path) -> None:
    board: Any = CurrentTrending()
    (tmp_path / "file").write_text("")
    await add(database, "u1", "v1", "like")
    await _roller(database).catch_up()
    await _refresher(board, database, tmp_path / "file" / "trending.json").refresh()
    assert _served(board) == ["v1"]
