"""Takes what an erased user did out of the counts of trending."""

from collections.abc import Awaitable, Callable
from typing import Final

import psycopg
import structlog

from bridge.postgres.pool import Connection
from bridge.trending.counts import OF_A_USER, count, take_back_user, use_indexes
from bridge.trending.progress import load, lock

MAX_WAIT_MS: Final = 20_000
"""How long an erasure waits for a step under way, which takes a second or two."""

_told: Final[set[str]] = set()  # problems, each of which is logged once a process

logger = structlog.get_logger(__name__)


async def forget_user(
    connection: Connection, user_id: str, delete: Callable[[], Awaitable[int]], *, max_wait_ms: int = MAX_WAIT_MS
) -> int:
    """Delete interactions of a user, and their counts with them, in the caller's transaction; return how many.

    What is left of the user counts again: an earlier deed, that is gone, may have kept it from counting. The deletion
    comes first: where counts cannot be changed, they stay as they are, and the interactions are deleted all the same.

    Args:
        connection: In a transaction.
        user_id: The user.
        delete: Deletes the interactions, and returns how many there were.
        max_wait_ms: How long others that change counts are waited for.
    """
    try:
        async with connection.transaction():
            return await _forget(connection, user_id, delete, max_wait_ms)
    except psycopg.Error as error:
        if connection.closed:
            raise
        _tell(error)
    return await delete()


async def _forget(connection: Connection, user_id: str, delete: Callable[[], Awaitable[int]], max_wait_ms: int) -> int:
    await connection.execute("SELECT set_config('lock_timeout', %s, true)", [f"{max_wait_ms}ms"])
    await lock(connection)  # else a step under way could count what is deleted here
    progress = await load(connection)
    await use_indexes(connection)
    parameters = {
        **progress.parameters(),
        "user_id": user_id,
        "transaction_id": progress.transaction_id,
        "event_id": progress.event_id,
        "older_at": progress.older_at,
        "older_id": progress.older_id,
    }
    await take_back_user(connection, parameters)
    deleted = await delete()
    await count(connection, OF_A_USER, parameters)
    await connection.execute("SET LOCAL lock_timeout TO DEFAULT")
    return deleted


def _tell(error: psycopg.Error) -> None:
    problem = str(error).strip().splitlines()[0]
    if problem not in _told:
        _told.add(problem)
        logger.error("trending.not_taken_back", problem=problem)
