"""The pool's promise to heal by itself."""

import asyncio
import gc
import os
import signal
import time
from contextlib import suppress
from uuid import uuid4

import psycopg
import pytest

from bridge.postgres.migrate import migrate
from bridge.postgres.pool import ConnectionBrokenError, Database
from deploy.local.postgres import Postgres
from tests.bridge.support.events import event, record, recorded
from tests.bridge.support.ingestion import running_ingestion
from tests.bridge.support.waiting import until


async def test_connections_that_hang_are_replaced(own_postgres: Postgres, kafka_bootstrap: str) -> None:
    """Postgres is in use again as soon as it answers on new connections, however long the old ones stay silent."""
    user = f"user-{uuid4()}"
    async with running_ingestion(own_postgres.url("videowindow"), kafka_bootstrap) as running:
        await record(running, event(user))
        hung = [
            pid for (pid,) in await running.rows("SELECT pid FROM pg_stat_activity WHERE application_name = 'bridge'")
        ]
        assert len(hung) > 1
        for pid in hung:
            os.kill(pid, signal.SIGSTOP)
        try:
            await record(running, event(user))
            started = time.monotonic()
            await until(lambda: not running.away(), timeout_s=20)
            assert time.monotonic() - started < 5
            assert len(await recorded(running, 2, user)) == 2
        finally:
            for pid in hung:
                os.kill(pid, signal.SIGCONT)


async def test_a_cancelled_probe_leaves_no_connection_open(postgres_url: str, kafka_bootstrap: str) -> None:
    """Wherever it is cancelled: what is left open is told of when it is collected, and warnings are errors."""
    async with running_ingestion(postgres_url, kafka_bootstrap) as running:
        started = time.monotonic()
        assert await running.database.answers()
        whole = time.monotonic() - started
        for turn in range(200):
            probe = asyncio.create_task(running.database.answers())
            await asyncio.sleep(whole * turn / 200)
            probe.cancel()
            with suppress(asyncio.CancelledError):
                await probe
    gc.collect()


async def test_an_answer_too_many_breaks_the_connection_only(postgres_url: str) -> None:
    """PgBouncer sends one at a COMMIT when its server goes; psycopg says so with an error that has no code."""
    migrate(postgres_url)
    database = Database(postgres_url)
    await database.open()
    database.ready.set()
    try:
        with pytest.raises(ConnectionBrokenError):
            async with database.connection(timeout_s=30) as connection:
                raise psycopg.InternalError("received 2 results from command 'COMMIT'")
        assert connection.closed
        async with database.connection(timeout_s=30) as connection:
            await connection.execute("SELECT 1")
    finally:
        await database.close()
