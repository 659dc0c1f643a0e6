"""An erasure takes counts back; where these cannot be changed, the user's interactions are deleted all the same."""

import asyncio
import re
from collections.abc import AsyncIterator
from functools import partial
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from structlog.testing import capture_logs

from bridge.maintenance.erasure import erase, forget_before
from bridge.postgres.pool import Database
from bridge.trending.erasing import forget_user
from bridge.trending.progress import lock
from bridge.trending.roller import Roller
from tests.bridge.support.trending import COUNTING, counts, fill, store

LEFT = "SELECT count(*) FROM user_interactions WHERE user_id = 'u1'"


@pytest.fixture
async def without_rights(pool: Database, postgres_url: str) -> AsyncIterator[Database]:
    """The same database for a role that may do all but what trending needs, as one that was granted rights earlier."""
    assert pool.ready.is_set()  # its tables are there
    name = f"app_{uuid4().hex}"
    role = sql.Identifier(name)
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        owner.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'app'").format(role))
        owner.execute(sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {}").format(role))
        owner.execute(
            sql.SQL("REVOKE ALL ON trending_hours, trending_marks, trending_scores, trending_progress FROM {}").format(
                role
            )
        )
    own = Database(re.sub(r"//[^@]*@", f"//{name}:app@", postgres_url))
    await own.open()
    own.ready.set()
    yield own
    await own.close()
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        owner.execute(sql.SQL("DROP OWNED BY {}").format(role))
        owner.execute(sql.SQL("DROP ROLE {}").format(role))


async def _left(database: Database) -> int:
    async with database.connection() as connection:
        (left,) = await (await connection.execute(LEFT)).fetchone() or (-1,)
    return int(left)


async def test_a_role_without_rights_erases_and_obeys_tombstones(database: Database, without_rights: Database) -> None:
    """Counts stay, which is told once; user and backfill do not wait for a grant."""
    await store(database, {}, {"video_id": "v2"}, {"user_id": "u2"})
    await Roller(database, COUNTING).catch_up()
    with capture_logs() as logs:
        async with without_rights.connection() as connection:
            assert await forget_before(connection, "u1", 2**42) == 2
        async with without_rights.connection() as connection:
            assert (await erase(connection, "u2", topics=()))["user_interactions"] == 1
    assert await _left(database) == 0
    assert [log["event"] for log in logs if log["event"] == "trending.not_taken_back"] == ["trending.not_taken_back"]
    assert len(await counts(database)) == 2


async def test_an_erasure_waits_for_a_step_only_so_long(database: Database) -> None:
    """A bridge that hangs in a step, or somebody who locks the tables, keeps nobody's interactions from going."""
    await store(database, {})
    await Roller(database, COUNTING).catch_up()
    async with database.connection() as held:
        await lock(held)
        async with database.connection() as connection:

            async def delete() -> int:
                return (await connection.execute("DELETE FROM user_interactions WHERE user_id = 'u1'")).rowcount

            with capture_logs() as logs:
                assert await forget_user(connection, "u1", delete, max_wait_ms=50) == 1
    assert await _left(database) == 0
    assert [log["event"] for log in logs] == ["trending.not_taken_back"]


async def test_erasures_and_steps_at_once_come_to_an_end(database: Database) -> None:
    """Whoever comes first: nobody waits for each other in turn, and the erased count no longer."""
    await fill(database, 200)
    await store(database, *[{"user_id": f"x{number}", "video_id": f"v{number}"} for number in range(1, 9)])

    async def forget(user: str) -> None:
        async with database.connection(timeout_s=60) as connection:
            await erase(connection, user, topics=())

    steps = [partial(Roller(database, COUNTING, batch=batch).catch_up) for batch in (7, 11)]
    await asyncio.gather(*[step() for step in steps], *[forget(f"x{number}") for number in range(1, 9)])
    await Roller(database, COUNTING).catch_up()
    assert sum(row[6] for row in await counts(database)) == 200
