"""A database for what trends."""

from collections.abc import AsyncIterator

import pytest

from bridge.background.supervision import background
from bridge.postgres.pool import Database
from tests.bridge.support.trending import empty
from tests.bridge.support.waiting import until


@pytest.fixture(scope="module")
async def pool(postgres_url: str) -> AsyncIterator[Database]:
    """A database of the module's own."""
    database = Database(postgres_url)
    await database.open()
    async with background("schema", database.keep_schema):
        await until(database.ready.is_set)
        yield database
    await database.close()


@pytest.fixture
async def database(pool: Database) -> Database:
    """The same without any interaction."""
    await empty(pool)
    return pool
