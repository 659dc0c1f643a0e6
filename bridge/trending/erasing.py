"""Takes what an erased user did out of the counts of trending."""

from collections.abc import Awaitable, Callable

from bridge.postgres.pool import Connection
from bridge.trending.counts import OF_A_USER, count, take_back_user, use_indexes
from bridge.trending.progress import load, lock


async def forget_user(connection: Connection, user_id: str, delete: Callable[[], Awaitable[int]]) -> int:
    """Delete interactions of a user, and their counts with them, in the caller's transaction; return how many.

    What is left of the user counts again: an earlier deed, that is gone, may have kept it from counting.

    Args:
        connection: In a transaction.
        user_id: The user.
        delete: Deletes the interactions, and returns how many there were.
    """
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
    return deleted
