"""An event's transaction goes on when its caller has gone, and ends without a word if it fails."""

import asyncio
import gc
import time
from typing import Any, NoReturn

import pytest

from bridge.background.supervision import background
from bridge.ingest.transactional_write import TransactionalWriter
from bridge.postgres.availability import Availability
from bridge.postgres.migrate import migrate
from bridge.postgres.pool import Connection, Database
from tests.bridge.support.waiting import until


class _UnknownError(Exception):
    pass


async def test_the_failure_of_a_cancelled_call_is_not_logged_by_asyncio(postgres_url: str) -> None:
    told: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: told.append(context))
    migrate(postgres_url)
    database = Database(postgres_url)
    await database.open()
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work(_: Connection) -> NoReturn:
        begun.set()
        await go_on.wait()
        raise _UnknownError

    def commits() -> list[Any]:
        return [task for task in asyncio.all_tasks() if "TransactionalWriter" in repr(task.get_coro())]

    try:
        async with background("schema", database.keep_schema):
            await until(database.ready.is_set)
            journal = TransactionalWriter(database, None, Availability(database, time.monotonic), time.monotonic)
            call: asyncio.Task[object] = asyncio.create_task(journal.write(work, timeout_s=30))
            await asyncio.wait_for(begun.wait(), 30)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            go_on.set()
            await until(lambda: commits() == [])
            gc.collect()
    finally:
        loop.set_exception_handler(before)
        await database.close()
    assert not told
