"""Excludes concurrent runs by a lock that ends with the process that holds it, or soon afterwards."""

import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, LiteralString, Protocol

import psycopg

from retrain.errors import Reason, RunError
from retrain.postgres import connect
from retrain.settings import RetrainSettings
from servicekit.files.lock import FileLock
from servicekit.process.periodic_thread import PeriodicThread

KEY: Final = 4_702_001
"""Of the session's lock by which releases before this one excluded each other."""
LOCK_FILE: Final = "retrain.lock"
"""In the work folder, where there is no Postgres; all releases exclude each other by it."""
LEASE_S: Final = 30.0
RENEWALS: Final = 6
"""In the time of a lease."""
LOOK_S: Final = 0.5
SETTLED_S: Final = 2.0
"""After which Postgres has done what a process that was killed just now had asked for."""
_TAKE: Final = """
UPDATE retrain_lease
SET fence = fence + 1, holder = %s, expires_at = clock_timestamp() + make_interval(secs => %s)
WHERE expires_at < clock_timestamp() AND pg_try_advisory_xact_lock(%s) RETURNING fence
"""
_LOOK: Final = "SELECT holder, expires_at::text, expires_at < clock_timestamp() FROM retrain_lease"
_RENEW: Final = """
UPDATE retrain_lease SET expires_at = clock_timestamp() + make_interval(secs => %s) WHERE fence = %s RETURNING fence
"""
_RELEASE: Final = """
UPDATE retrain_lease SET expires_at = '-infinity', holder = '' WHERE fence = %s RETURNING fence
"""


class Lock(Protocol):
    """A lock that is held from its creation."""

    def check(self) -> None:
        """Return if the lock is still held; RunError if it is not, or if that is unknown."""

    def release(self) -> None:
        """Release the lock."""


class PostgresLock:
    """A lease in a table: its holder renews it, by the clock of the database, under a number of its own.

    No session holds it, so that it works through poolers, which share sessions between clients. A process that hangs
    for longer than the lease loses it, and finds out by its number. That of a process that was killed is free when its
    time is over, for which the next one waits.

    Args:
        conninfo: The database.
        lease_s: Seconds after which it is free unless it was renewed, which it is several times as often.

    Raises:
        RunError: Another run holds the lease, or the database is out of reach.
    """

    def __init__(self, conninfo: str, *, lease_s: float = LEASE_S) -> None:
        self._conninfo = conninfo
        self._lease_s = lease_s
        try:
            self._fence = self._take()
        except psycopg.errors.UndefinedTable:
            raise RunError(Reason.LOCK, "the table retrain_lease is missing: python -m bridge migrate") from None
        except psycopg.OperationalError as error:
            raise RunError(Reason.LOCK, f"no lock, as Postgres is out of reach: {_line(error)}") from None
        except psycopg.Error as error:
            raise RunError(Reason.LOCK, f"no lock: {_line(error)}") from None
        self._renewing = PeriodicThread(
            "lease", self._keep, interval_s=lease_s / RENEWALS, stop_within_s=threading.TIMEOUT_MAX
        )
        self._renewing.start()

    def check(self) -> None:
        """Return if the lease is still valid; RunError if it is not, or if that is unknown."""
        try:
            held, problem = self._renew(), ""
        except psycopg.Error as error:
            held, problem = False, f" (Postgres: {_line(error)})"
        if not held:
            raise RunError(Reason.LOCK, f"the lock was lost: another run may be under way{problem}")

    def release(self) -> None:
        """Release the lease, at once if Postgres answers."""
        self._renewing.stop()
        with suppress(psycopg.Error):
            self._ask(_RELEASE, [self._fence])

    def _take(self) -> int:
        """Return the number of the new lease; wait for an unrenewed one to end."""
        seen, begin = None, time.monotonic()
        while True:
            row = self._ask(_TAKE, [_holder(), self._lease_s, KEY])
            if row:
                return int(row[0])
            holder, expires_at, free = self._ask(_LOOK, []) or ("nobody knows whose", None, True)
            if time.monotonic() - begin > SETTLED_S:
                # Free, and yet not to be had: by a program of the release before, which holds a session's lock.
                if free or expires_at != (seen or expires_at):
                    raise RunError(Reason.BUSY, f"another run is under way: {holder or 'of an older program'}")
                seen = expires_at
            time.sleep(LOOK_S)

    def _renew(self) -> bool:
        return self._ask(_RENEW, [self._lease_s, self._fence]) is not None

    def _keep(self) -> None:
        with suppress(psycopg.Error):  # `check` tells, and the next renewal may do
            self._renew()

    def _ask(self, query: LiteralString, values: list[Any]) -> tuple[Any, ...] | None:
        """Run a statement in a transaction and a connection of its own; return its row."""
        with connect(self._conninfo, autocommit=True) as connection:
            return connection.execute(query, values).fetchone()


class LocalLock:
    """A lock on a file, between runs of one machine that share a folder.

    Args:
        path: Made when missing, and left there.

    Raises:
        RunError: Another run holds the lock.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock = FileLock(path)
        except BlockingIOError:
            raise RunError(Reason.BUSY, f"another run is under way: it holds {path}") from None

    def check(self) -> None:
        """Return at once: the lock ends with the process only."""

    def release(self) -> None:
        """Release the lock."""
        self._lock.close()


def take_lock(conninfo: str | None, path: Path) -> Lock:
    """Return the lock: in the database if there is one, else on the file."""
    return PostgresLock(conninfo, lease_s=LEASE_S) if conninfo else LocalLock(path)


def run_lock(settings: RetrainSettings) -> Lock:
    """Take the lock that excludes other runs; RunError when another run holds it."""
    return take_lock(settings.conninfo(), settings.retrain_work_dir / LOCK_FILE)


def _holder() -> str:
    return f"process {os.getpid()} of {socket.gethostname()}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
