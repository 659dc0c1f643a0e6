"""Enables prepared statements where a connection leads to a session of its own, and nowhere else.

They spare Postgres half of its work for a lone interaction. A pooler gives the next statement to another session, which
knows of none, or of another client's by the same name. That there is one shows in the process that answers: it is not
the one that Postgres named when the connection was made, as poolers name none or make numbers up. One that does not
show it fails with errors that are known, upon which nothing is prepared any more.
"""

import asyncio
import secrets
from typing import Any, Final, TypeAlias

import psycopg
import structlog

Connection: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]

THRESHOLD: Final = 5
"""Times that a statement runs before it is prepared."""
ANSWER_S: Final = 2.0
UNKNOWN: Final = (psycopg.errors.InvalidSqlStatementName, psycopg.errors.DuplicatePreparedStatement)
"""What is raised by a session that knows no such statement, or another client's of this name; nothing has happened."""

logger = structlog.get_logger(__name__)


class Prepared:
    """Decides for each new connection of a pool whether it may prepare statements."""

    def __init__(self) -> None:
        self._allowed = True

    async def configure(self, connection: Connection) -> None:
        """Let a connection prepare statements if it leads to a session of its own."""
        if not self._allowed:
            return
        async with asyncio.timeout(ANSWER_S):  # else one that hangs would keep the pool from making others
            row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
        if row != (connection.info.backend_pid,):
            logger.info("postgres.pooled", consequence="statements are not prepared")
            self._allowed = False
            return
        # No other client's statement may have the name of one of these.
        connection._prepared._prepared_idx = secrets.randbits(62)  # noqa: SLF001  # names have no other setting
        connection.prepare_threshold = THRESHOLD

    def failed(self) -> None:
        """Record that a session did not know a prepared statement: a pooler is in between after all."""
        self._allowed = False
