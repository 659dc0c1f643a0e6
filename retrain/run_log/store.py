"""Stores the log of runs: in a table of Postgres if configured, else in files of this machine."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import UUID

import psycopg
from pydantic import ValidationError

from retrain.errors import Reason, RunError
from retrain.postgres import Connection, connect
from retrain.run_log.row import RunRow, State
from retrain.settings import RetrainSettings
from servicekit.files.replacement import write_whole

MAX_FILES: Final = 1000
"""Runs kept in files."""
ORPHANED: Final = "the process ended without a word"


class Runs(Protocol):
    """The log of runs."""

    def save(self, row: RunRow) -> None:
        """Write a run, in place of its earlier row."""

    def beat(self, run_id: UUID, at: datetime) -> None:
        """Record that a run is alive."""

    def end_orphans(self, at: datetime) -> int:
        """Mark all running runs as failed, for the holder of the lock; return their number."""

    def recent(self, count: int) -> list[RunRow]:
        """Return the latest runs, the newest first."""

    def unlogged(self) -> list[RunRow]:
        """Return the ended runs that Snowflake lacks, oldest first."""


class PostgresRuns:
    """Runs in the table `retrain_runs`; RunError when it cannot be reached.

    Args:
        conninfo: The database.
    """

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo

    def save(self, row: RunRow) -> None:
        """Write a run, in place of its earlier row."""
        values = row.model_dump() | {
            "state": str(row.state),
            "stage_seconds": json.dumps(row.stage_seconds),
            "quality": json.dumps(row.quality),
        }
        names = ", ".join(values)
        places = ", ".join(f"%({name})s" for name in values)
        changes = ", ".join(f"{name} = excluded.{name}" for name in values if name != "run_id")
        with self._connection() as connection:
            connection.execute(
                f"INSERT INTO retrain_runs ({names}) VALUES ({places}) ON CONFLICT (run_id) DO UPDATE SET {changes}",
                values,
            )

    def beat(self, run_id: UUID, at: datetime) -> None:
        """Record that a run is alive."""
        with self._connection() as connection:
            connection.execute("UPDATE retrain_runs SET heartbeat_at = %s WHERE run_id = %s", [at, run_id])

    def end_orphans(self, at: datetime) -> int:
        """Mark all running runs as failed; return their number."""
        with self._connection() as connection:
            done = connection.execute(
                "UPDATE retrain_runs SET state = 'failed', ended_at = %s, reason = %s, message = %s "
                "WHERE state = 'running'",
                [at, str(Reason.KILLED), ORPHANED],
            )
            return done.rowcount

    def recent(self, count: int) -> list[RunRow]:
        """Return the latest runs, the newest first."""
        return self._rows("ORDER BY started_at DESC, run_id LIMIT %s", [count])

    def unlogged(self) -> list[RunRow]:
        """Return the ended runs that Snowflake lacks, oldest first."""
        return self._rows("WHERE logged_at IS NULL AND state <> 'running' ORDER BY started_at, run_id", [])

    def _rows(self, which: str, values: list[Any]) -> list[RunRow]:
        # As text: one odd value, such as a time that is infinite, would make the client refuse all rows.
        query = f"SELECT row_to_json(retrain_runs)::text FROM retrain_runs {which}"
        with self._connection() as connection:
            texts = [text for (text,) in connection.execute(query, values).fetchall()]
        return [row for text in texts if (row := _row(text)) is not None]

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        try:
            with connect(self._conninfo) as connection:
                yield connection
        except psycopg.errors.UndefinedTable:
            raise RunError(Reason.RUNS, "the table retrain_runs is missing: python -m bridge migrate") from None
        except psycopg.Error as error:
            raise RunError(Reason.RUNS, f"Postgres: {' '.join(str(error).split())}") from None


class FileRuns:
    """Runs as files of a folder, for installations without Postgres.

    Args:
        folder: Made when missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, row: RunRow) -> None:
        """Write a run, in place of its earlier row."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{row.started_at:%Y%m%dT%H%M%S%f}-{row.run_id}.json"
        write_whole(path, row.model_dump_json(indent=2))
        for old in sorted(self._folder.glob("*.json"))[:-MAX_FILES]:
            old.unlink(missing_ok=True)

    def beat(self, run_id: UUID, at: datetime) -> None:
        """Record that a run is alive."""
        for row in self._rows():
            if row.run_id == run_id and row.state is State.RUNNING:
                self.save(row.alive(at))

    def end_orphans(self, at: datetime) -> int:
        """Mark all running runs as failed; return their number."""
        orphans = [row for row in self._rows() if row.state is State.RUNNING]
        for row in orphans:
            self.save(row.ended_by_others(at, Reason.KILLED, ORPHANED))
        return len(orphans)

    def recent(self, count: int) -> list[RunRow]:
        """Return the latest runs, the newest first."""
        return self._rows()[::-1][:count]

    def unlogged(self) -> list[RunRow]:
        """Return the ended runs that Snowflake lacks, oldest first."""
        return [row for row in self._rows() if row.logged_at is None and row.state is not State.RUNNING]

    def _rows(self) -> list[RunRow]:
        rows = []
        for path in sorted(self._folder.glob("*.json")):
            with suppress(FileNotFoundError):  # just removed
                row = _row(path.read_bytes())
                rows += [row] if row else []
        return rows


def _row(text: str | bytes) -> RunRow | None:
    """Return the run in a kept text; None for an invalid text, or one of another version of this program."""
    try:
        return RunRow.model_validate_json(text)
    except ValidationError:
        return None


def open_runs(settings: RetrainSettings) -> Runs:
    """Return the log of runs: in Postgres if that is configured, else in files."""
    conninfo = settings.conninfo()
    return PostgresRuns(conninfo) if conninfo else FileRuns(settings.retrain_work_dir / "runs")
