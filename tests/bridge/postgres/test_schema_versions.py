"""A schema that is newer than the program, and a role that lacks rights: told once, and served where possible."""

import ast
import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from grpc import aio
from psycopg import sql
from structlog.testing import capture_logs

from bridge.postgres.migrate import MIGRATIONS, head, known_revisions, migrate
from bridge.postgres.pool import Database
from deploy.local.postgres import Postgres
from tests.bridge.support.events import event, is_temporary, record, recorded
from tests.bridge.support.ingestion import running_ingestion
from tests.bridge.support.waiting import until

ROOT: Final = Path(__file__).parents[3]
NEWER: Final = "0999"


@pytest.fixture
def url(postgres_server: Postgres) -> str:
    """An empty database."""
    return postgres_server.create_database(f"test_{uuid4().hex}")


@pytest.fixture
def role(url: str) -> Iterator[tuple[str, str]]:
    """A role that may do nothing but connect, and the URL by which it does."""
    name = f"app_{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'app'").format(sql.Identifier(name)))
    yield name, re.sub(r"//[^@]*@", f"//{name}:app@", url)
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
        owner.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(sql.SQL(statement))


def migrate_command(url: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    return subprocess.run(
        [sys.executable, "-m", "bridge", "migrate"],
        cwd=ROOT,
        env=environment | {"DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_newest_revision_is_that_of_the_files() -> None:
    """They are told by their names, as Alembic takes half a second to import."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == head()
    assert len(known_revisions()) == len(set(known_revisions()))


async def test_a_newer_schema_that_only_added_something_is_used(url: str) -> None:
    migrate(url)
    execute(url, "UPDATE bridge_schema_version SET version_num = '0999'", "ALTER TABLE videos ADD more int")
    done = migrate_command(url)
    newer = f"the schema is newer (revision {NEWER}) than this program ({head()}), which can use it"
    assert (done.returncode, done.stdout, done.stderr) == (0, f"Database schema: {newer}\n", "")
    with capture_logs() as logs:
        async with running_ingestion(url, None) as running:
            await record(running, event("u"))
            assert len(await recorded(running, 1, "u")) == 1
    assert [one["schema"] for one in logs if one["event"] == "postgres.ready"] == [newer]


async def test_a_newer_schema_that_took_something_away_is_told_of_once(url: str) -> None:
    """And used as soon as that can be."""
    migrate(url)
    execute(
        url,
        "UPDATE bridge_schema_version SET version_num = '0999'",
        "UPDATE bridge_schema_compatibility SET oldest_program = '0999'",
    )
    done = migrate_command(url)
    text = f"the schema is newer (revision {NEWER}) than this program ({head()}), and needs one of revision {NEWER}"
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {text} at least\n"
    told: list[bool] = []
    pauses = 0

    async def sleep(_: float) -> None:
        nonlocal pauses
        pauses += 1
        if pauses == 5:
            execute(url, "UPDATE bridge_schema_compatibility SET oldest_program = '0001'")
        await asyncio.sleep(0 if pauses < 10 else 60)

    with capture_logs() as logs:
        database = Database(url, sleep=sleep, tell_health=told.append)
        keeping = asyncio.create_task(database.keep_schema())
        await until(database.ready.is_set)
        keeping.cancel()
    assert [one["event"] for one in logs] == ["postgres.unusable", "postgres.ready"]
    assert told == [False] * 5 + [True]


def test_a_role_that_may_not_create_tables_is_told_which_grant_it_needs(url: str, role: tuple[str, str]) -> None:
    name, as_role = role
    done = migrate_command(as_role)
    grant = f"GRANT CREATE ON SCHEMA public TO {name}"
    assert done.returncode == 2
    assert done.stderr == f"error: role {name} may not create tables in schema public: {grant}\n"
    execute(url, grant)
    assert migrate_command(as_role).returncode == 0


def test_a_role_that_does_not_own_the_tables_is_told_who_does(url: str, role: tuple[str, str]) -> None:
    name, as_role = role
    migrate(url)
    execute(
        url,
        f"GRANT CREATE ON SCHEMA public TO {name}",
        f"GRANT SELECT ON bridge_schema_version TO {name}",
        "UPDATE bridge_schema_version SET version_num = '0007'",
    )
    done = migrate_command(as_role)
    assert done.returncode == 2
    assert (
        f"role {name} may not change the tables of role videowindow: run `python -m bridge migrate` as" in done.stderr
    )
    assert "Traceback" not in done.stderr


async def test_a_bridge_without_rights_says_so_once_and_takes_interactions_when_granted(
    url: str, role: tuple[str, str]
) -> None:
    """It needs no right to make tables where somebody else does that."""
    name, as_role = role
    migrate(url)
    told: list[bool] = []
    with capture_logs() as logs:
        async with running_ingestion(as_role, None, wait_for_schema=False, tell_health=told.append) as running:
            await until(lambda: len(told) > 2)
            with pytest.raises(aio.AioRpcError) as caught:
                await record(running, event("u"))
            is_temporary(caught.value)
            execute(url, f"GRANT SELECT ON bridge_schema_version TO {name}")
            await until(lambda: [one for one in logs if "interaction_ids" in one.get("error", "")])
            execute(url, f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}")
            await until(running.database.ready.is_set)
            await record(running, event("u"))
            execute(url, f"REVOKE INSERT ON user_interactions FROM {name}")
            for _ in range(3):
                with pytest.raises(aio.AioRpcError) as caught:
                    await record(running, event("u"))
                is_temporary(caught.value)
            await until(lambda: not running.database.ready.is_set())
            execute(url, f"GRANT INSERT ON user_interactions TO {name}")
            await until(running.database.ready.is_set)
            await record(running, event("u"))
    texts = [one["error"] for one in logs if one["event"] == "postgres.unusable"]
    assert texts[0] == (
        f"permission denied for table bridge_schema_version: GRANT SELECT ON bridge_schema_version TO {name}"
    )
    assert f"GRANT SELECT, INSERT, UPDATE, DELETE ON interaction_ids TO {name}" in texts[1]
    assert texts[2] == f"role {name} lacks INSERT on user_interactions: GRANT INSERT ON user_interactions TO {name}"
    assert len(texts) == 3
    assert len([one for one in logs if one["event"] == "postgres.forbidden"]) == 1
    assert not [one for one in logs if "defect" in one["event"] or "exc_info" in one]


def test_partitions_that_cannot_be_made_are_named_and_keep_nobody_out(url: str, role: tuple[str, str]) -> None:
    name, as_role = role
    migrate(url)
    execute(
        url,
        "DROP TABLE feed_cache_default",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}",
        f"REVOKE INSERT ON feed_cache FROM {name}",
    )
    schema = migrate(as_role)
    assert not schema.newer
    lacks, partitions = schema.notes
    assert lacks == f"role {name} lacks INSERT on feed_cache: GRANT INSERT ON feed_cache TO {name}"
    assert partitions.startswith("partitions are not made: ")


TAKES_AWAY: Final = re.compile(
    r"\b(DROP|RENAME|SET NOT NULL|ALTER COLUMN \w+ (SET DATA )?TYPE|ADD CONSTRAINT)\b", re.IGNORECASE
)
DROPS_OF_ROWS_OR_RULES: Final = re.compile(r"DROP TABLE %I|ALTER COLUMN payload DROP NOT NULL")


def test_a_migration_that_takes_something_away_says_which_programs_still_work() -> None:
    """By the oldest revision: else older programs would go on, and fail at each statement."""
    for path in sorted((MIGRATIONS / "versions").glob("0*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        upgrading = [node for node in tree.body if not (isinstance(node, ast.FunctionDef) and node.name == "downgrade")]
        text = DROPS_OF_ROWS_OR_RULES.sub("", "\n".join(map(ast.unparse, upgrading)))
        if TAKES_AWAY.search(text):
            assert "UPDATE bridge_schema_compatibility SET oldest_program" in text, path.name
