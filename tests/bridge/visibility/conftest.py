"""A Kafka of these tests' own: every bridge obeys the hides of its topic, those of other tests too."""

from collections.abc import Iterator

import pytest

from deploy.local.kafka.mock import MockKafka


@pytest.fixture(scope="module")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap addresses of the module's Kafka."""
    kafka = MockKafka(tmp_path_factory.mktemp("catalogue-kafka"))
    yield kafka.start()
    kafka.stop()
