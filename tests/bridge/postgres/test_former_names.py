"""Programs of the release before read and write under the former names of tables."""

from datetime import UTC, datetime

import psycopg
import pytest
from psycopg import sql

from bridge.postgres.migrate import migrate


@pytest.fixture
def database(postgres_url: str) -> str:
    migrate(postgres_url)
    return postgres_url


def test_erased_users_are_known_by_the_former_name_of_their_table(database: str) -> None:
    moment = datetime(2026, 11, 30, tzinfo=UTC)
    erase = sql.SQL(
        "INSERT INTO {} (mark, erased_at) VALUES (%s, %s)"
        " ON CONFLICT (mark) DO UPDATE SET erased_at = excluded.erased_at"
    )
    look = sql.SQL("SELECT mark, erased_at FROM {} ORDER BY mark")
    with psycopg.connect(database, autocommit=True) as connection:
        for table, mark in (("erased_viewers", b"old"), ("erased_users", b"new"), ("erased_viewers", b"new")):
            connection.execute(erase.format(sql.Identifier(table)), (mark, moment))
        for table in ("erased_viewers", "erased_users"):
            rows = connection.execute(look.format(sql.Identifier(table))).fetchall()
            assert rows == [(b"new", moment), (b"old", moment)]


def test_migrations_repeat_after_a_rollback_to_the_release_before(database: str) -> None:
    """It refuses a schema that is newer, so its operators set the revision back."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE bridge_schema_version SET version_num = '0007'")
        connection.execute("INSERT INTO erased_viewers (mark, erased_at) VALUES ('kept', now())")
    migrate(database)
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM erased_users WHERE mark = 'kept'").fetchall() == [(1,)]
