"""Creates the Kafka topics of the system on a broker."""

import time
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # it is public

from bridge.kafka.topics import topics

WANTED: Final = {topic.name: topic for topic in topics(replication=1)}
TOPICS: Final = {name: topic.partitions for name, topic in WANTED.items()}
"""Partitions by topic."""


def create_topics(bootstrap: str, *, timeout_s: float) -> None:
    """Create missing topics; TimeoutError when the broker does not answer in time."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            known = admin.list_topics(timeout=2).topics
            missing = [_topic(name) for name in TOPICS if name not in known]
            if not missing:
                return
            for outcome in admin.create_topics(missing, operation_timeout=10).values():
                outcome.result()
        except KafkaException as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the broker refuses to create topics: {error.args[0].str()}") from None


def _topic(name: str) -> NewTopic:
    wanted = WANTED[name]
    return NewTopic(name, wanted.partitions, wanted.replication, config=dict(wanted.config))
