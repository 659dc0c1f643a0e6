"""One run at a time: a lock that ends with the process that holds it."""

import fcntl
import os
from pathlib import Path
from typing import Any, Final, LiteralString, Protocol

import psycopg

from retrain.failure import Reason, RunFailure
from retrain.postgres import connect

KEY: Final = 4_702_001
"""Of the advisory lock; other programs of this project have others."""
_TAKE: Final = "SELECT pg_try_advisory_lock(%s)"
_HELD: Final = (
    "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted "
    "AND classid = 0 AND objid = %s AND objsubid = 1"
)


class Lock(Protocol):
    """Is held from the moment it is made."""

    def check(self) -> None:
        """Return if it is still held; RunFailure when it is not, or when nobody can tell."""

    def release(self) -> None:
        """Let others have it."""


class PostgresLock:
    """A session's advisory lock, on a connection of its own: it ends when the process or the connection does.

    Not through a pooler that shares sessions between clients.

    Args:
        conninfo: The database.

    Raises:
        RunFailure: Somebody else holds it, or the database is out of reach.
    """

    def __init__(self, conninfo: str) -> None:
        try:
            self._connection = connect(conninfo, autocommit=True)
            taken = self._ask(_TAKE)
        except psycopg.Error as error:
            raise RunFailure(Reason.LOCK, f"no lock, as Postgres is out of reach: {_line(error)}") from None
        if not taken:
            self._connection.close()
            raise RunFailure(Reason.BUSY, "another run is under way")

    def check(self) -> None:
        """Return if it is still held; RunFailure when it is not, or when nobody can tell."""
        try:
            held, problem = self._ask(_HELD), ""
        except psycopg.Error as error:
            held, problem = False, f" (Postgres: {_line(error)})"
        if not held:
            raise RunFailure(Reason.LOCK, f"the lock was lost: another run may be under way{problem}")

    def release(self) -> None:
        """Let others have it."""
        self._connection.close()

    def _ask(self, query: LiteralString) -> Any:
        """Return the only value of a query's only row."""
        row = self._connection.execute(query, [KEY]).fetchone()
        return row[0] if row else None


class FileLock:
    """A lock on a file: between runs of one machine that share a folder.

    Args:
        path: Made when missing, and left there.

    Raises:
        RunFailure: Somebody else holds it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise RunFailure(Reason.BUSY, f"another run is under way: it holds {path}") from None

    def check(self) -> None:
        """Return: the lock ends with the process only."""

    def release(self) -> None:
        """Let others have it."""
        os.close(self._descriptor)


def take_lock(conninfo: str | None, path: Path) -> Lock:
    """Return the lock: in the database where there is one, else on the file."""
    return PostgresLock(conninfo) if conninfo else FileLock(path)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
