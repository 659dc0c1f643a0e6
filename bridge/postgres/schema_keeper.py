"""Keeps the schema up to date while the bridge runs, and logs each of its faults once."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import psycopg
import structlog

from bridge.postgres.migrate import Schema, migrate
from bridge.postgres.schema_rights import SchemaError

RETRY_S: Final = 1.0
DAY_S: Final = 24 * 60 * 60.0

logger = structlog.get_logger(__name__)


class SchemaKeeper:
    """Checks the schema: repeatedly while it is unusable, then once a day. Belongs to one event loop.

    Args:
        tell_health: Told whether the schema can be used, after each look that Postgres answered.
        sleep: Waits between two looks.
    """

    def __init__(self, tell_health: Callable[[bool], None], sleep: Callable[[float], Awaitable[None]]) -> None:
        self._tell_health = tell_health
        self._sleep = sleep
        self.ready = asyncio.Event()
        """Set while the schema can be used."""
        self._look = asyncio.Event()
        self._problem = ""
        self._notes: Sequence[str] = ()
        self._forbidden: set[str] = set()

    async def keep(self, conninfo: Callable[[], str]) -> None:
        """Bring the schema up to date as soon as Postgres answers, then once a day; forever.

        Args:
            conninfo: Returns how Postgres is reached now.
        """
        while True:
            self._look.clear()
            try:
                schema = await asyncio.to_thread(migrate, conninfo())
            except psycopg.OperationalError as error:
                self._say("postgres.unreachable", _line(error), once=True)
                await self._sleep(RETRY_S)
            except (SchemaError, psycopg.Error) as error:
                self.ready.clear()
                self._tell_health(False)  # noqa: FBT003  # the callback's only argument
                self._say("postgres.unusable", _line(error))
                await self._sleep(RETRY_S)
            else:
                self._usable(schema)
                await self._rest()

    def forbidden(self, error: psycopg.Error) -> None:
        """Record a statement that the role has no right to, log it once, and check all rights soon."""
        problem = _line(error)
        if problem not in self._forbidden:
            self._forbidden.add(problem)
            logger.error("postgres.forbidden", problem=problem)
            self._look.set()

    def _usable(self, schema: Schema) -> None:
        if self._problem or not self.ready.is_set():
            logger.info("postgres.ready", schema=str(schema))
        if schema.notes and schema.notes != self._notes:
            logger.warning("postgres.incomplete", problems=schema.notes)
        self._problem, self._notes = "", schema.notes
        self._tell_health(True)  # noqa: FBT003  # the callback's only argument
        self.ready.set()

    def _say(self, event: str, problem: str, *, once: bool = False) -> None:
        """Log a problem unless that has been done; with `once`, whatever its words, which each attempt may change."""
        said = event if once else problem
        if said != self._problem:
            logger.warning(event, error=problem)
        self._problem = said

    async def _rest(self) -> None:
        """Wait for a day, or until a right is missing."""
        waits = [asyncio.ensure_future(one) for one in (self._sleep(DAY_S), self._look.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
