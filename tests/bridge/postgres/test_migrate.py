"""The schema: partitions by month, made ahead, and identifiers that are unique across them."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest

from bridge.domain.interaction import Interaction, InteractionType
from bridge.ingest.interactions_table import record
from bridge.postgres import migrate as migrate_module
from bridge.postgres.migrate import migrate
from bridge.trending.progress import LOCK
from deploy.local.postgres import Postgres


@pytest.fixture(scope="module")
def database(postgres_server: Postgres) -> str:
    url = postgres_server.create_database(f"test_{uuid4().hex}")
    migrate(url)
    return url


def test_months_are_made_ahead(database: str) -> None:
    """This month's rows have a partition, as those of the next twelve will; running it again makes no more."""
    migrate(database)
    now = datetime.now(UTC)
    months = [divmod(now.year * 12 + now.month - 1 + ahead, 12) for ahead in range(13)]
    expected = {f"user_interactions_{year}{month + 1:02}" for year, month in months}
    with psycopg.connect(database) as connection:
        partitions = connection.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'user_interactions'::regclass"
        ).fetchall()
        assert {name for (name,) in partitions} >= expected
        row = connection.execute(
            "INSERT INTO user_interactions (user_id, video_id, interaction_type, occurred_at)"
            " VALUES ('u', 'v', 'like', %s) RETURNING tableoid::regclass::text",
            [now],
        ).fetchone()
    assert row == (f"user_interactions_{now.year}{now.month:02}",)


def test_old_rows_have_a_place(database: str) -> None:
    with psycopg.connect(database) as connection:
        row = connection.execute(
            "INSERT INTO user_interactions (user_id, video_id, interaction_type, occurred_at)"
            " VALUES ('u', 'v', 'like', '2019-05-05') RETURNING tableoid::regclass::text"
        ).fetchone()
    assert row == ("user_interactions_default",)


async def test_event_is_known_in_every_partition(database: str) -> None:
    """An event that is sent again with another month's timestamp, to another process, is the same event."""
    old = datetime.now(UTC) - timedelta(days=6)
    event_id = uuid4()
    for occurred_at, expected in ((datetime.now(UTC), 1), (old, 0)):
        interaction = Interaction(
            event_id=event_id,
            user_id="u",
            video_id="v",
            interaction_type=InteractionType.LIKE,
            occurred_at=occurred_at,
        )
        async with await psycopg.AsyncConnection.connect(database) as connection:
            assert len(await record(connection, [interaction], [None])) == expected


def test_partitions_wait_for_nobody_for_long(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bridge that starts while another one hangs in a step of trending takes interactions in."""
    monkeypatch.setattr(migrate_module, "_WAIT", "SET LOCAL lock_timeout = '50ms'")
    with psycopg.connect(database) as hung:
        hung.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        schema = migrate(database)
    assert [note.split(":")[0] for note in schema.notes] == ["partitions are not made yet"]
    assert migrate(database).notes == []
