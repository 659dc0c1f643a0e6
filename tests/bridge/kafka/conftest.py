"""An ingestion with a database of its own."""

from collections.abc import AsyncIterator

import pytest

from servicekit.telemetry.metrics import connect_metrics
from tests.bridge.support.ingestion import Ingestion, running_ingestion
from tests.support.dogstatsd import DogStatsdServer


@pytest.fixture
async def ingestion(own_database: str, kafka_bootstrap: str, dogstatsd: DogStatsdServer) -> AsyncIterator[Ingestion]:
    metrics = connect_metrics(dogstatsd.host, dogstatsd.port, service="bridge")
    async with running_ingestion(own_database, kafka_bootstrap, metrics=metrics) as running:
        yield running
    metrics.close()
