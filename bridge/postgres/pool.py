"""Connects to Postgres, which may be away at any time, also at the start."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from bridge.postgres.prepared_statements import UNKNOWN, Prepared
from bridge.postgres.schema_keeper import RETRY_S, SchemaKeeper

T = TypeVar("T")
Connection: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]

LIMITS: Final[dict[str, str | int]] = {
    "connect_timeout": 2,
    # A standby, or a primary that became one, is no use; of several hosts in the URL the writable one is taken.
    "target_session_attrs": "read-write",
    # A server that vanishes without a word is noticed within ten seconds.
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 10_000,
    "application_name": "bridge",
}
"""No `options` among them: poolers refuse to start a session with any, as others may get the session later."""
IDLE: Final = "SET LOCAL idle_in_transaction_session_timeout = '60s'"
"""What a cut connection left open on the server must not hold its locks for long."""
INSUFFICIENT_RESOURCES: Final = "53"
"""Class of the error codes that say that the disk is full, or memory: nothing has happened, and nothing is broken."""
TOO_MUCH: Final = "54"
"""Class of the error codes for a row that is too large for Postgres, which no other connection would change."""
PROBE_TIMEOUT_S: Final = 3.0

logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # it tells of each attempt; here each change is told of


class DatabaseUnavailableError(Exception):
    """Postgres does not answer, or its schema is not there yet."""


class ForbiddenError(DatabaseUnavailableError):
    """The role lacks a right that the statement needs; the statement had no effect."""


class ConnectionBrokenError(DatabaseUnavailableError):
    """The connection broke while in use; the effect of its statements is unknown."""


class Database:
    """A pool of connections that heals by itself.

    Args:
        url: A `postgresql://` URL or a libpq connection string, or what returns the one of now.
        connections: Connections at most.
        sleep: Waits between attempts to bring the schema up to date.
        tell_health: Told whether the schema can be used, whenever that has been looked at.
    """

    def __init__(
        self,
        url: str | Callable[[], str],
        *,
        connections: int = 8,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        tell_health: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._url = url
        self._keeper = SchemaKeeper(tell_health, sleep)
        self._prepared = Prepared()
        self._pool = AsyncConnectionPool(
            self.conninfo,
            min_size=2,
            max_size=connections,
            # The pool doubles its pauses without limit; giving up early makes the next caller start afresh.
            reconnect_timeout=RETRY_S,
            kwargs={"autocommit": True, "prepare_threshold": None},
            configure=self._prepared.configure,
            open=False,
        )
        self._tasks: set[asyncio.Task[bool]] = set()
        self.ready = self._keeper.ready
        """Set while the schema is there and can be used."""

    def conninfo(self) -> str:
        """Return the connection string for the next connection."""
        return make_conninfo(self._url() if callable(self._url) else self._url, **LIMITS)

    async def open(self) -> None:
        """Start connecting, and return at once."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close(timeout=2.0)

    @asynccontextmanager
    async def connection(self, *, timeout_s: float = 1.0) -> AsyncIterator[Connection]:
        """Lend a connection in a transaction that ends with the block; DatabaseUnavailableError without one."""
        async with self.statements(timeout_s=timeout_s) as connection, connection.transaction():
            await connection.execute(IDLE)
            yield connection

    @asynccontextmanager
    async def statements(self, *, timeout_s: float = 1.0) -> AsyncIterator[Connection]:
        """Lend a connection on which each statement is a transaction of its own, and so one round trip."""
        if not self.ready.is_set():
            raise DatabaseUnavailableError("the schema is not there yet")
        try:
            async with self._pool.connection(timeout=timeout_s) as connection, self._told(connection):
                yield connection
        except (PoolTimeout, PoolClosed) as error:
            raise DatabaseUnavailableError(str(error)) from error
        except psycopg.OperationalError as error:
            if (error.sqlstate or "").startswith(INSUFFICIENT_RESOURCES):
                raise DatabaseUnavailableError(str(error).strip()) from error
            if (error.sqlstate or "").startswith(TOO_MUCH):
                raise
            raise ConnectionBrokenError(str(error).strip()) from error

    @asynccontextmanager
    async def _told(self, connection: Connection) -> AsyncIterator[None]:
        """Say of errors what they mean."""
        try:
            yield
        except psycopg.errors.ReadOnlySqlTransaction as error:
            await connection.close()  # the pool would lend it again
            raise ConnectionBrokenError("Postgres is read-only") from error
        except UNKNOWN as error:
            self._prepared.failed()
            raise ConnectionBrokenError(str(error).strip()) from error
        except psycopg.InternalError as error:
            if error.sqlstate is not None:
                raise
            # Of psycopg, and not of Postgres: a pooler sends one answer too many when its server goes.
            await connection.close()
            raise ConnectionBrokenError(str(error).strip()) from error
        except psycopg.errors.InsufficientPrivilege as error:
            self._keeper.forbidden(error)
            raise ForbiddenError(str(error).strip()) from error

    async def run(self, work: Callable[[Connection], Awaitable[T]], /) -> T:
        """Run statements, each a transaction of its own, and once more when the connection turns out to be broken."""

        async def run() -> T:
            async with self.statements() as connection:
                return await work(connection)

        return await self.retried(run)

    async def retried(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run a step, and run it once more when the connection turns out to be broken."""
        try:
            return await work()
        except ConnectionBrokenError:
            await self.heal()
            return await work()

    async def heal(self) -> None:
        """Replace all connections at once: probing each could take as long as each hangs."""
        await self._pool.drain()

    def renew(self) -> None:
        """Reconnect if the present connection string works; otherwise keep the open connections."""
        task = asyncio.get_running_loop().create_task(self.answers())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def answers(self) -> bool:
        """Return whether a fresh connection works and the healed pool has one; takes a few seconds at most."""
        if not self.ready.is_set():
            return False
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                connection = await psycopg.AsyncConnection.connect(
                    self.conninfo(), autocommit=True, prepare_threshold=None
                )
                try:
                    await connection.execute("SELECT 1")
                finally:
                    await connection.close()  # its own block leaves it open when cancelled at a COMMIT
                await self.heal()
                async with self._pool.connection(PROBE_TIMEOUT_S):
                    pass  # callers would not wait until there is one
        except (psycopg.Error, TimeoutError):
            return False
        return True

    async def keep_schema(self) -> None:
        """Bring the schema up to date as soon as Postgres answers, then once a day for new partitions; forever."""
        await self._keeper.keep(self.conninfo)
