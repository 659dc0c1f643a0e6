"""What the tables do for whoever writes to them: revisions, and a record of each change in its transaction."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from bridge.background.supervision import background
from bridge.catalogue import videos_table, visibility_table
from bridge.catalogue.announcing import Announcer
from bridge.catalogue.video import Video
from bridge.catalogue.visibility_table import Lifted
from bridge.postgres.pool import Connection, Database, DatabaseUnavailableError
from bridge.visibility.changes import Kind
from bridge.visibility.record import KafkaHide, read_record
from tests.bridge.support.waiting import until

SEEDED = "INSERT INTO videos (video_id, author_id, tags, duration_ms, published_at) VALUES (%s, %s, '{a}', 1, now())"


@pytest.fixture(scope="module")
async def database(postgres_url: str) -> AsyncIterator[Database]:
    found = Database(postgres_url, connections=20)
    await found.open()
    async with background("schema", found.keep_schema):
        await until(found.ready.is_set)
        yield found
    await found.close()


async def rows(connection: Connection, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    return await (await connection.execute(query, parameters)).fetchall()


async def record_of(connection: Connection, key: str) -> Any:
    """Return the value of the one record of a key that waits, None for a tombstone; there must be one."""
    ((payload,),) = await rows(connection, "SELECT payload::text FROM interactions_outbox WHERE aggregateid = %s", key)
    return payload if payload is None else json.loads(payload)


async def test_programs_that_write_videos_directly_go_on(database: Database) -> None:
    """Each of their changes has a revision and a record; a repeat has neither."""
    async with database.connection() as connection:
        await connection.execute(SEEDED, ["d1", "a1"])
        first = await record_of(connection, "video:d1")
        assert (first["authorId"], first["durationMs"], first["hidden"], first["schema"]) == ("a1", 1, None, 1)
        update = "UPDATE videos SET author_id = %s WHERE video_id = 'd1'"
        await connection.execute(update, ["a2"])
        second = await record_of(connection, "video:d1")
        assert second["authorId"] == "a2"
        assert second["revision"] > first["revision"]
        await connection.execute(update, ["a2"])
        assert await record_of(connection, "video:d1") == second
        ((stored,),) = await rows(connection, "SELECT revision FROM videos WHERE video_id = 'd1'")
        assert stored == second["revision"]
        read = read_record("video:d1", json.dumps(second).encode())
        assert read.unknown_fields == 0
        await connection.execute("DELETE FROM videos WHERE video_id = 'd1'")
        assert await record_of(connection, "video:d1") is None


async def test_a_hidden_video_that_is_deleted_stays_hidden(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute(SEEDED, ["d2", "a1"])
        await visibility_table.hide(connection, Kind.VIDEO, {"d2": uuid4()}, "r", "ann")
        await connection.execute("DELETE FROM videos WHERE video_id = 'd2'")
        record = await record_of(connection, "video:d2")
        assert (record["known"], record["hidden"]["actor"]) == (False, "ann")


async def test_odd_rows_of_others_have_records_too(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO videos (video_id, author_id, tags, published_at, expires_at) VALUES"
            " ('o1', repeat('a', 500), ARRAY['a', NULL], 'infinity', '-infinity'),"
            " ('o2', NULL, '{}', '4000-01-01 BC', '200000-01-01')"
        )
        for name in ("o1", "o2"):
            record = await record_of(connection, f"video:{name}")
            assert (record["publishedAt"], record["expiresAt"]) == (None, None)
            read_record(f"video:{name}", json.dumps(record).encode())


async def test_rows_too_large_for_any_index_are_taken_as_before(database: Database) -> None:
    async with database.connection() as connection:
        name = random.Random(1).randbytes(1300).hex()
        await connection.execute(SEEDED, [name, "a" * 1_000_000])
        count = "SELECT count(*) FROM interactions_outbox WHERE length(aggregateid) > 1000"
        assert await rows(connection, count) == [(0,)]


async def test_videos_of_before_are_announced_a_few_at_a_time(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute("ALTER TABLE videos DISABLE TRIGGER USER")
        await connection.execute("INSERT INTO videos (video_id) SELECT 'old' || n FROM generate_series(1, 250) AS n")
        await connection.execute("ALTER TABLE videos ENABLE TRIGGER USER")
    announcer = Announcer(database)
    assert await announcer.announce() < 60
    assert await announcer.announce() == 60
    async with database.connection() as connection:
        assert await rows(connection, "SELECT count(*) FROM videos WHERE revision IS NULL") == [(0,)]
        assert (await record_of(connection, "video:old250"))["revision"] > 0


async def test_a_hide_from_kafka_is_taken_in_once(database: Database) -> None:
    """It comes again when the backfill is interrupted; a restoration between must not be undone."""
    hide = kafka_hide("k1")
    async with database.connection() as connection:
        assert await visibility_table.take_in(connection, [hide]) == 1
        assert await visibility_table.take_in(connection, [hide]) == 0
        other = kafka_hide("k1")
        assert await visibility_table.take_in(connection, [other]) == 0
        record = await record_of(connection, "video:k1")
        assert record["storedHides"] == [str(hide.hide_id), str(other.hide_id)]
        outcomes = await visibility_table.restore(
            connection, Kind.VIDEO, {"k1": record["hidden"]["revision"]}, "r", "bob"
        )
        assert isinstance(outcomes["k1"], Lifted)
        assert await visibility_table.take_in(connection, [hide, other]) == 0
        assert (await record_of(connection, "video:k1"))["hidden"] is None


async def test_only_the_last_hides_from_kafka_are_remembered(database: Database) -> None:
    async with database.connection() as connection:
        hides = [kafka_hide("k2") for _ in range(70)]
        for hide in hides:
            await visibility_table.take_in(connection, [hide])
        record = await record_of(connection, "video:k2")
        assert record["storedHides"] == [str(hide.hide_id) for hide in hides[-64:]]


def kafka_hide(name: str) -> KafkaHide:
    return KafkaHide(
        kind=Kind.VIDEO, id=name, hide_id=uuid4(), reason="r", actor="ann", since=datetime(2026, 1, 1, tzinfo=UTC)
    )


@pytest.mark.parametrize("seed", range(4))
async def test_races_leave_the_last_record_as_the_tables_are(database: Database, seed: int) -> None:
    """New videos, upserts, hides and restorations of the same few, at once, in many transactions."""
    rng = random.Random(seed)
    names = [f"race{seed}-{n}" for n in range(6)]
    hides: dict[str, int] = {}

    async def once(number: int) -> None:
        name, what = rng.choice(names), rng.random()
        for _ in range(10):
            try:
                async with database.connection(timeout_s=20) as connection:
                    if what < 0.4:
                        chosen = rng.sample(names, 3)
                        videos = [Video(video_id=one, author_id=f"a{number}") for one in chosen]
                        await videos_table.upsert(connection, videos)
                    elif what < 0.7:
                        taken = await visibility_table.hide(
                            connection, Kind.VIDEO, {one: uuid4() for one in rng.sample(names, 2)}, "r", "ann"
                        )
                        hides.update({one: state.revision for one, state in taken.items()})
                    elif what < 0.9:
                        await visibility_table.restore(connection, Kind.VIDEO, {name: hides.get(name, 1)}, "r", "bob")
                    else:
                        await visibility_table.take_in(connection, [kafka_hide(name)])
                    await asyncio.sleep(rng.random() * 0.02)
            except DatabaseUnavailableError:
                continue  # of two that wait for each other, one goes on
            return

    await asyncio.gather(*[once(number) for number in range(120)])
    async with database.connection() as connection:
        query = """
        SELECT video_id, greatest(v.revision, s.revision), v.author_id, s.hidden, s.hide_revision
        FROM videos AS v JOIN video_visibility AS s USING (video_id) WHERE video_id = ANY(%s)
        """
        found = await rows(connection, query, names)
        assert len(found) == len(names)
        for name, revision, author_id, hidden, hide_revision in found:
            record = await record_of(connection, f"video:{name}")
            assert (record["revision"], record["authorId"]) == (revision, author_id)
            assert (record["hidden"] or {}).get("revision") == (hide_revision if hidden else None)
