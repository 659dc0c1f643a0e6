"""Served pages in a real Postgres."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import structlog

from bridge.analytics.served_pages import MAX_WAITING_BYTES, ServedPageLog, page_bytes
from bridge.background.supervision import background
from bridge.domain.page import FallbackReason, Page, RankedVideo, ServedBy, ServedPage
from bridge.postgres.pool import Database, DatabaseUnavailableError
from servicekit.bounded import ENTRY_BYTES
from servicekit.telemetry.metrics import NoMetrics, connect_metrics
from tests.bridge.support.waiting import until
from tests.support.dogstatsd import DogStatsdServer

NOW = datetime.now(UTC)


def _served(number: int = 1, *, reason: FallbackReason | None = None, at: datetime = NOW, **changes: Any) -> ServedPage:
    page = Page(
        videos=[RankedVideo('v"1,\\', 2.0), RankedVideo("v{2}\t", 1.0)],
        more=True,
        algorithm="trending" if reason else "lightfm-warp",
        served_by=ServedBy.TRENDING if reason else ServedBy.LIGHTFM,
        model_version="" if reason else "m1",
        fallback_reason=reason,
    )
    known = {"user_id": "u1", "feed_session_id": "s1", "surface": "home", "variant_id": "blue"}
    return ServedPage(**{**known, **changes}, number=number, served_at=at, page=page)


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    database = Database(postgres_url)
    await database.open()
    async with background("schema", database.keep_schema):
        await until(database.ready.is_set)
        async with database.connection() as connection:
            await connection.execute("TRUNCATE feed_cache")
        yield database
    await database.close()


async def _rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    async with database.connection() as connection:
        return await (await connection.execute(query)).fetchall()


async def test_pages_are_kept_as_served(database: Database) -> None:
    cache = ServedPageLog(database, NoMetrics())
    cache.add(_served(1))
    cache.add(_served(2, reason=FallbackReason.SHED))
    await cache.write()
    rows = await _rows(database, "SELECT * FROM feed_cache ORDER BY page")
    videos = ['v"1,\\', "v{2}\t"]
    assert rows == [
        (NOW, "s1", 1, "u1", "home", "lightfm", "", "lightfm-warp", "m1", "blue", videos),
        (NOW, "s1", 2, "u1", "home", "trending", "shed", "trending", "", "blue", videos),
    ]


async def test_many_pages_take_several_batches(database: Database) -> None:
    cache = ServedPageLog(database, NoMetrics())
    for number in range(1200):
        cache.add(_served(number))
    async with background("feed-cache", cache.keep_writing):
        await _until_count(database, 1200)


async def _until_count(database: Database, count: int) -> None:
    for _ in range(400):
        if (await _rows(database, "SELECT count(*) FROM feed_cache"))[0][0] == count:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(await _rows(database, "SELECT count(*) FROM feed_cache"))


async def test_without_postgres_the_oldest_are_dropped_and_counted(dogstatsd: DogStatsdServer) -> None:
    """Memory is bounded, a page is added at once, and what was lost is told."""
    metrics = connect_metrics(dogstatsd.host, dogstatsd.port, service="bridge")
    cache = ServedPageLog(
        Database("postgresql://nobody@127.0.0.1:1/none"),
        metrics,
        waiting_bytes=10 * (page_bytes(_served()) + ENTRY_BYTES),
    )
    for number in range(25):
        cache.add(_served(number))
    with pytest.raises(DatabaseUnavailableError):
        await cache.write()
    assert [served.number for served in cache._waiting] == list(range(15, 25))

    async def quick(_: float) -> None:
        await asyncio.sleep(0.001)

    cache._job._sleep = quick
    async with background("feed-cache", cache.keep_writing):
        await until(lambda: not cache._dropped)
    metrics.close()
    await until(lambda: sum(packet.values[0] for packet in dogstatsd.packets("feed.cache.dropped")) == 15)


async def test_waiting_pages_survive_an_outage(database: Database) -> None:
    """What Postgres could not take is written in order when it is back."""
    cache = ServedPageLog(database, NoMetrics())
    database.ready.clear()
    for number in range(3):
        cache.add(_served(number))
    with pytest.raises(DatabaseUnavailableError):
        await cache.write()
    database.ready.set()
    cache.add(_served(3))
    await cache.write()
    assert await _rows(database, "SELECT page FROM feed_cache ORDER BY ctid") == [(0,), (1,), (2,), (3,)]


@pytest.mark.parametrize(
    "bad", [{"user_id": "a\x00b"}, {"surface": "\ud800"}, {"number": 10**18}, {"at": datetime(1, 1, 1, tzinfo=UTC)}]
)
async def test_a_page_that_postgres_refuses_takes_no_other_along(
    database: Database, bad: dict[str, Any], dogstatsd: DogStatsdServer
) -> None:
    """The others of its batch are written in their order; it is counted, and named in one log line."""
    metrics = connect_metrics(dogstatsd.host, dogstatsd.port, service="bridge")
    cache = ServedPageLog(database, metrics)
    for number in range(1, 8):
        cache.add(_served(**{"number": number, **(bad if number == 3 else {})}))
    with structlog.testing.capture_logs() as logs:
        assert await cache._job.work() > 0
    pages = [page for (page,) in await _rows(database, "SELECT page FROM feed_cache WHERE created_at > '2000-01-01'")]
    assert pages == [1, 2, 4, 5, 6, 7]
    if "at" not in bad:  # the default partition takes any time
        assert [(log["event"], log["count"], [*log["rows"]]) for log in logs] == [("rows.set_aside", 1, ["s1"])]
        metrics.close()
        await until(lambda: sum(packet.values[0] for packet in dogstatsd.packets("feed.jobs.rows_set_aside")) == 1)


async def test_an_outage_amid_halves_keeps_what_is_left(database: Database) -> None:
    cache = ServedPageLog(database, NoMetrics())
    for number in range(8):
        cache.add(_served(number, user_id="\0" if number == 5 else "u1"))
    write, calls = cache._write, 0

    async def write_twice(batch: Sequence[ServedPage]) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise DatabaseUnavailableError("gone")
        await write(batch)

    cache._write = write_twice  # type: ignore[method-assign]
    with pytest.raises(DatabaseUnavailableError):
        await cache.write()
    assert [served.number for served in cache._waiting] == [4, 5, 6, 7]
    await cache.write()
    assert await _rows(database, "SELECT page FROM feed_cache ORDER BY ctid") == [
        (0,),
        (1,),
        (2,),
        (3,),
        (4,),
        (6,),
        (7,),
    ]


@pytest.mark.peer
@pytest.mark.parametrize("character", ["a", "é", "視", "🎬"])
def test_the_bound_is_what_waiting_pages_take(character: str) -> None:
    """Pages of 500 videos with the longest ids that callers may use stay within the documented bytes."""
    database = Database("postgresql://nobody@127.0.0.1:1/none")
    cache = ServedPageLog(database, NoMetrics(), waiting_bytes=MAX_WAITING_BYTES // 8)
    length = 128 // len(character.encode()) - 8
    tracemalloc.start()
    for number in range(200):
        videos = [RankedVideo(f"{character * length}{number * 500 + place:08}", 1.0 + place) for place in range(500)]
        page = Page(videos=videos, more=True, algorithm="x", served_by=ServedBy.LIGHTFM)
        cache.add(replace(_served(number), user_id=f"user-{number:0120}", page=page))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert MAX_WAITING_BYTES // 32 < taken < MAX_WAITING_BYTES // 8


async def test_old_days_are_dropped(database: Database, postgres_url: str) -> None:
    """Days beyond those kept go with their partition, and rows of no partition go, too."""
    cache = ServedPageLog(database, NoMetrics())
    cache.add(_served(1))
    cache.add(_served(2, at=NOW - timedelta(days=30)))
    await cache.write()
    async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
        await connection.execute(
            "CREATE TABLE feed_cache_20200101 PARTITION OF feed_cache FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')"
        )
        await connection.execute("SELECT feed_cache_maintain(7)")
    assert await _rows(database, "SELECT page FROM feed_cache") == [(1,)]
    assert await _rows(database, "SELECT to_regclass('feed_cache_20200101')") == [(None,)]
