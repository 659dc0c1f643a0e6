"""Several bridges count at once, and one ends in a step: each deed counts once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from structlog.testing import capture_logs

from bridge.postgres.migrate import migrate
from bridge.postgres.pool import Database, DatabaseUnavailableError
from bridge.trending.formula import FORMULA
from bridge.trending.progress import LOCK
from bridge.trending.roller import Roller
from deploy.local.postgres import Postgres
from servicekit.telemetry.metrics import connect_metrics
from tests.bridge.support.trending import COUNTING, Ranked, count_anew, counts, fill, store, strengths
from tests.bridge.support.waiting import until
from tests.support.dogstatsd import DogStatsdServer


async def _rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    async with database.connection() as connection:
        return await (await connection.execute(query.encode())).fetchall()


@asynccontextmanager
async def _held(database: Database, table: str) -> AsyncIterator[None]:
    """Let steps stop where they come to a table."""
    async with database.connection() as connection:
        await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        yield


async def _waiting(database: Database) -> list[tuple[Any, ...]]:
    """Return the process that waits for a lock, as soon as there is one."""
    query = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'relation' AND datname = current_database()"
    deadline = asyncio.get_running_loop().time() + 30
    while not (found := await _rows(database, query)):
        assert asyncio.get_running_loop().time() < deadline
    return found


async def test_two_bridges_at_once_and_one_killed_in_a_step_count_once(database: Database) -> None:
    await fill(database, 300)
    killed, other = Roller(database, COUNTING, batch=7), Roller(database, COUNTING, batch=11)
    await killed.step()
    async with _held(database, "trending_scores"):
        step = asyncio.create_task(killed.step())
        (process,) = await _waiting(database)
        assert not (await other.step()).led
        await _rows(database, f"SELECT pg_terminate_backend({process[0]})")
        with pytest.raises(DatabaseUnavailableError):
            await step
    await database.heal()
    await asyncio.gather(killed.catch_up(), other.catch_up())
    grown = await counts(database)
    assert sum(row[6] for row in grown) == 300
    scores = await strengths(database)
    await count_anew(database)
    assert await counts(database) == grown
    assert await strengths(database) == pytest.approx(scores, rel=1e-9)


async def test_what_commits_late_counts(database: Database, postgres_url: str) -> None:
    """A transaction that began earlier and ends later than others: nothing passes it by."""
    roller = Roller(database, COUNTING)
    insert = (
        "INSERT INTO user_interactions (user_id, video_id, interaction_type, occurred_at)"
        " VALUES ('u', %s, 'like', now())"
    )
    async with await psycopg.AsyncConnection.connect(postgres_url) as slow:
        await slow.execute(insert, ["slow"])
        await store(database, {"video_id": "quick"})
        await roller.catch_up()
        assert await counts(database) == []
    await roller.catch_up()
    assert {row[1] for row in await counts(database)} == {"slow", "quick"}


async def test_another_half_life_makes_the_scores_anew(database: Database) -> None:
    """By the counts that are there; the bridge that started last decides, and others do not fight it."""
    ahead = datetime.now(UTC) - timedelta(hours=10)
    await store(database, {"video_id": "old", "occurred_at": ahead, "interaction_type": "share"}, {"video_id": "new"})
    first = Roller(database, COUNTING)
    await first.catch_up()
    assert (await Ranked(database=database).ids()) == ["new", "old"]
    second = replace(COUNTING, half_life_s=1e9)
    assert (await Ranked(database=database, counting=second).ids()) == ["old", "new"]
    await first.catch_up()
    assert await _rows(database, "SELECT half_life_s, complete FROM trending_progress") == [(1e9, True)]


async def test_an_older_program_counts_no_longer(database: Database) -> None:
    await store(database, {})
    roller = Roller(database, COUNTING)
    await roller.catch_up()
    async with database.connection() as connection:
        await connection.execute("UPDATE trending_progress SET formula = %s", [FORMULA + 1])
    with capture_logs() as logs:
        for _ in range(2):
            assert not (await roller.step()).led
    assert [log["event"] for log in logs] == ["trending.newer_formula"]


async def test_a_restored_database_counts_on(database: Database) -> None:
    """Its transactions begin anew with low numbers: without care, nothing would count until they catch up."""
    await store(database, {"video_id": "before"})
    roller = Roller(database, COUNTING)
    await roller.catch_up()
    async with database.connection() as connection:
        await connection.execute("UPDATE trending_progress SET transaction_id = transaction_id + 1000000")
    with capture_logs() as logs:
        await roller.catch_up()
        await store(database, {"video_id": "after"})
        await roller.catch_up()
    assert [log["event"] for log in logs] == ["trending.database_restored"]
    assert {row[1] for row in await counts(database)} == {"before", "after"}


async def test_all_of_a_restored_database_counts_anew(database: Database) -> None:
    """Whatever numbers the other server gave: higher ones than this one yet, or lower ones."""
    await store(database, *[{"video_id": name} for name in ("high", "low", "uncounted")])
    await Roller(database, COUNTING).catch_up()
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE user_interactions SET transaction_id = CASE video_id WHEN 'low' THEN 3"
            " ELSE transaction_id + 1000000 END"
        )
        await connection.execute("UPDATE trending_progress SET transaction_id = transaction_id + 1000000")
    await store(database, {"video_id": "before it is noticed"})
    await Roller(database, COUNTING).catch_up()
    await store(database, {"video_id": "after"})
    await Roller(database, COUNTING).catch_up()
    grown = await counts(database)
    assert {row[1] for row in grown} == {"high", "low", "uncounted", "before it is noticed", "after"}
    await count_anew(database)
    assert await counts(database) == grown


async def test_steps_become_as_small_as_a_timeout_wants(postgres_server: Postgres) -> None:
    """An administrator may set one: steps that are cancelled for ever would count nothing."""
    url = postgres_server.create_database(f"test_{uuid4().hex}")
    migrate(url)
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(0.1); RETURN NEW; END $$"
        )
        owner.execute("CREATE TRIGGER slow BEFORE INSERT ON trending_hours FOR EACH ROW EXECUTE FUNCTION slow()")
        owner.execute(
            sql.SQL("ALTER DATABASE {} SET statement_timeout = '1s'").format(sql.Identifier(owner.info.dbname))
        )
    own = Database(url)
    await own.open()
    own.ready.set()
    try:
        await fill(own, 24)
        with capture_logs() as logs:
            await Roller(own, COUNTING, batch=24).catch_up()
        assert sum(row[6] for row in await counts(own)) == 24
    finally:
        await own.close()
    assert [log["event"] for log in logs].count("trending.cancelled") == 1


async def test_lag_and_rows_are_told(database: Database, dogstatsd: DogStatsdServer) -> None:
    metrics = connect_metrics(dogstatsd.host, dogstatsd.port, service="bridge")
    await fill(database, 25)
    assert await Roller(database, COUNTING, batch=10, metrics=metrics).catch_up() == 25
    metrics.close()
    await until(lambda: sum(packet.values[0] for packet in dogstatsd.packets("feed.trending.counted")) == 25)
    await until(lambda: dogstatsd.packets("feed.trending.lag_seconds"))


async def _behind(database: Database, seconds: int) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE trending_progress SET counted_at = now() - make_interval(secs => %s)", [seconds]
        )


async def test_a_transaction_that_stays_open_is_told_of(database: Database, postgres_url: str) -> None:
    """It holds back what is committed after it; so does a bridge that hangs in a step, of which another one tells."""
    leader, other = Roller(database, COUNTING), Roller(database, COUNTING)
    await leader.catch_up()
    with capture_logs() as logs:
        async with await psycopg.AsyncConnection.connect(postgres_url) as slow:
            await slow.execute("SELECT pg_current_xact_id()")
            await store(database, {})
            await leader.catch_up()
            await _behind(database, 3600)
            await leader.catch_up()
            assert await counts(database) == []
            await slow.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
            assert not (await other.step()).led
        await leader.catch_up()
        await other.catch_up()
    assert len(await counts(database)) == 1
    told = [log["event"] for log in logs]
    assert told == ["trending.late", "trending.late", "trending.in_time", "trending.in_time"]


async def test_old_marks_are_forgotten(database: Database) -> None:
    """In weeks' partitions, which are dropped whole, and among those of no week; what counts keeps its marks."""
    await store(database, {"video_id": "imported", "occurred_at": datetime(2022, 4, 30, tzinfo=UTC)})
    await fill(database, 20)
    few = replace(COUNTING, enough=20)
    await Roller(database, few).catch_up()
    assert await _rows(database, "SELECT count(*) FROM trending_marks_default") == [(0,)]
    assert await _rows(database, "SELECT count(*) FROM trending_marks") == [(20,)]
    async with database.connection() as connection:
        await connection.execute(
            "CREATE TABLE trending_marks_11 PARTITION OF trending_marks FOR VALUES FROM (11) TO (18)"
        )
        await connection.execute("SELECT trending_maintain()")
    assert await _rows(database, "SELECT to_regclass('trending_marks_11')") == [(None,)]
    assert await _rows(database, "SELECT count(*) FROM trending_marks") == [(20,)]
