"""An ingestion over the run's Postgres and Kafka."""

from collections.abc import AsyncIterator

import pytest

from tests.bridge.support.ingestion import Ingestion, running_ingestion


@pytest.fixture(scope="module")
async def ingestion(postgres_url: str, kafka_bootstrap: str) -> AsyncIterator[Ingestion]:
    async with running_ingestion(postgres_url, kafka_bootstrap) as running:
        yield running
