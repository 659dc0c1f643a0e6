"""Brings the database schema up to date, and checks whether this program can use the present schema.

A schema that is newer than the program is used as long as the migrations that the program lacks only added to it.
Migrations that did more say so in `bridge_schema_compatibility`, by the oldest revision whose program still works.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, LiteralString, TypeAlias

import psycopg
from psycopg import sql

from bridge.postgres.schema_rights import SchemaError, check_rights, creation_problem

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

MIGRATIONS: Final = Path(__file__).parent / "migrations"
FEED_CACHE_DAYS: Final = 7
"""Days that served pages are kept."""
_PARTITIONS: Final[Sequence[tuple[LiteralString, Sequence[int]]]] = (
    ("SELECT feed_cache_maintain(%s)", [FEED_CACHE_DAYS]),
    ("SELECT user_interactions_ensure_months((now() - interval '1 month')::date, %s)", [14]),
    ("SELECT trending_maintain()", []),
)

_WAIT: Final = "SET LOCAL lock_timeout = '10s'"
"""Partitions are made ahead: no start waits for whoever holds their locks, and the next look makes them."""

_alembic = threading.Lock()  # it keeps the current context in module globals


class SchemaNewerError(SchemaError):
    """The schema has been changed in a way that this program does not know."""


@dataclass(frozen=True, slots=True)
class Schema:
    """The schema as a program found or left it.

    Attributes:
        revision: Its revision.
        program: The newest revision that the program knows.
        notes: What is amiss, and yet does not keep the program from its work.
    """

    revision: str
    program: str
    notes: Sequence[str] = ()

    @property
    def newer(self) -> bool:
        """Return whether the program lacks migrations of the schema, all of which only added something."""
        return self.revision != self.program

    def __str__(self) -> str:
        if self.newer:
            return (
                f"the schema is newer (revision {self.revision}) than this program ({self.program}), which can use it"
            )
        return "up to date"


def migrate(conninfo: str) -> Schema:
    """Apply missing revisions in one transaction; safe to run by several instances at once.

    Raises:
        psycopg.OperationalError: Postgres is out of reach.
        SchemaError: The schema cannot be used, or not be made.
    """
    with connect(conninfo) as connection:
        revision = _revision(connection)
        behind = revision is None or (revision in known_revisions() and revision != head())
        if behind:
            _may_create(connection)
    if behind:
        _upgrade(conninfo)
    with connect(conninfo) as connection:
        revision = _revision(connection) or ""
        _check_revision(connection, revision)
        notes = check_rights(connection)
    return Schema(revision, head(), [*notes, *_make_partitions(conninfo)])


def require_schema(conninfo: str) -> None:
    """Return when this program can use the schema that is there, and change nothing.

    Raises:
        psycopg.OperationalError: Postgres is out of reach.
        SchemaError: The schema cannot be used, or is not up to date.
    """
    with connect(conninfo) as connection:
        revision = _revision(connection)
        if revision is None or (revision in known_revisions() and revision != head()):
            found = f"is of revision {revision}" if revision else "is not made yet"
            raise SchemaError(f"the schema {found}, and {head()} is needed: run `python -m bridge migrate` first")
        _check_revision(connection, revision)


def connect(conninfo: str) -> Connection:
    """Return a connection that works through a pooler, which knows no prepared statements."""
    return psycopg.connect(conninfo, prepare_threshold=None)


def known_revisions() -> list[str]:
    """Return the revisions that this program brings, oldest first."""
    return sorted(path.name[:4] for path in (MIGRATIONS / "versions").glob("[0-9][0-9][0-9][0-9]_*.py"))


def head() -> str:
    """Return the newest known revision."""
    return known_revisions()[-1]


def _revision(connection: Connection) -> str | None:
    """Return the schema's revision, None if there is no schema."""
    if _value(connection, "SELECT to_regclass('bridge_schema_version')") is None:
        return None
    try:
        found = _value(connection, "SELECT max(version_num) FROM bridge_schema_version")
    except psycopg.errors.InsufficientPrivilege as error:
        role = connection.info.user
        raise SchemaError(f"{_line(error)}: GRANT SELECT ON bridge_schema_version TO {role}") from None
    return None if found is None else str(found)


def _check_revision(connection: Connection, revision: str) -> None:
    """Raise SchemaNewerError unless the program can use the schema."""
    if revision in known_revisions():
        return
    newer = f"the schema is newer (revision {revision}) than this program ({head()})"
    oldest = "0001"
    if _value(connection, "SELECT to_regclass('bridge_schema_compatibility')") is not None:
        oldest = str(
            _value(connection, "SELECT coalesce(max(oldest_program), '0001') FROM bridge_schema_compatibility")
        )
    if not revision > head() or oldest > head():
        raise SchemaNewerError(f"{newer}, and needs one of revision {oldest} at least")


def _may_create(connection: Connection) -> None:
    problem = creation_problem(connection)
    if problem:
        raise SchemaError(problem)


def _upgrade(conninfo: str) -> None:
    # Half a second to import, and not needed after the start.
    import sqlalchemy as sa  # noqa: PLC0415
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util.exc import CommandError  # noqa: PLC0415

    logging.getLogger("alembic").setLevel(logging.WARNING)
    engine = sa.create_engine("postgresql+psycopg://", creator=partial(connect, conninfo), poolclass=sa.NullPool)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    try:
        with _alembic, engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError:
        return  # a newer program has been here meanwhile, of which the caller finds out
    except sa.exc.DBAPIError as error:
        if isinstance(error.orig, psycopg.OperationalError):
            raise error.orig from None
        raise SchemaError(f"the schema was not changed: {_line(error.orig or error)}") from None


def _make_partitions(conninfo: str) -> list[str]:
    """Create partitions ahead; return why that failed. Rows without a partition go to the default one."""
    problems = []
    for statement, values in _PARTITIONS:
        try:
            with connect(conninfo) as connection:
                connection.execute(_WAIT)
                connection.execute(statement, values)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled) as error:
            problems.append(f"partitions are not made yet: {_line(error)}")
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            problems.append(
                f"partitions are not made: {_line(error)}; run `python -m bridge migrate` daily as the owner"
            )
    return [*dict.fromkeys(problems)]


def _value(connection: Connection, query: str) -> Any:
    row = connection.execute(sql.SQL(query)).fetchone()
    return row[0] if row else None


def _line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
