"""Creates the Kafka topics of the system where they are missing, and compares existing ones with the specification."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType  # type: ignore[attr-defined]  # they are public

from bridge.kafka.message import DEAD_LETTER_TOPIC, INTERACTIONS_TOPIC
from servicekit.kafka.client import quiet_logger

T = TypeVar("T")

TIMEOUT_S: Final = 15.0
PAUSE_S: Final = 0.1
RETENTION_MS: Final = 7 * 24 * 60 * 60 * 1000
FEEDBACK_TOPIC: Final = "feed.feedback.v1"
SESSION_CREATED_TOPIC: Final = "playback.session-created"
POSITION_UPDATED_TOPIC: Final = "playback.position-updated"
SESSION_ENDED_TOPIC: Final = "playback.session-ended"
FEATURES_TOPIC: Final = "processed_features"
CATALOGUE_TOPIC: Final = "feed.catalogue.v1"
PROFILE_UPDATES_TOPIC: Final = "recsvc.profile-updates.v1"
"""What recsvc was told of users, for all its machines."""
USER_TOPICS: Final = (
    INTERACTIONS_TOPIC,
    FEEDBACK_TOPIC,
    SESSION_CREATED_TOPIC,
    POSITION_UPDATED_TOPIC,
    SESSION_ENDED_TOPIC,
    FEATURES_TOPIC,
)
"""Topics whose key is a user."""


class TopicsError(Exception):
    """The brokers do not answer, or refuse; the message is for people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Topic:
    """The specification of a topic."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicReport:
    """The result for a topic; `differences` are texts such as "partitions: 3, should be 6"."""

    name: str
    created: bool
    differences: tuple[str, ...] = ()


def topics(replication: int) -> list[Topic]:
    """Return the topics of the system; with three replicas, two must hold a message before it is acknowledged."""
    config = {
        "retention.ms": str(RETENTION_MS),
        "compression.type": "snappy",
        "min.insync.replicas": str(max(1, replication - 1)),
        "cleanup.policy": "delete",
    }
    names = {**dict.fromkeys((*USER_TOPICS, PROFILE_UPDATES_TOPIC), 6), DEAD_LETTER_TOPIC: 1}
    # A hide that Kafka alone has must stand there until it is in Postgres, whatever was written for its key since.
    compacted = {"cleanup.policy": "compact", "retention.ms": "-1", "min.compaction.lag.ms": str(RETENTION_MS)}
    return [
        *[Topic(name=name, partitions=n, replication=replication, config=config) for name, n in names.items()],
        Topic(name=CATALOGUE_TOPIC, partitions=6, replication=replication, config=config | compacted),
    ]


def ensure_topics(client: Mapping[str, Any], wanted: list[Topic]) -> list[TopicReport]:
    """Create missing topics and compare the others, which stay unchanged; safe to run twice, and by several at once.

    Raises:
        TopicsError: The brokers do not answer, or do not allow it.
    """
    admin = AdminClient(dict(client), logger=quiet_logger())
    try:
        known = admin.list_topics(timeout=TIMEOUT_S).topics
        created = _create(admin, [topic for topic in wanted if topic.name not in known])
        old = [topic for topic in wanted if topic.name not in created]
        known = _settled(lambda: _listed(admin, old))
        configs = _settled(lambda: _configs(admin, old))
        reports = [TopicReport(name=name, created=True) for name in created]
        for topic in old:
            found = tuple(_differences(topic, known[topic.name].partitions, configs.get(topic.name, {})))
            reports.append(TopicReport(name=topic.name, created=False, differences=found))
    except KafkaException as error:
        raise TopicsError(error.args[0].str()) from None
    return sorted(reports, key=lambda report: report.name)


def _create(admin: AdminClient, missing: list[Topic]) -> list[str]:
    if not missing:
        return []
    new = [NewTopic(t.name, t.partitions, t.replication, config=dict(t.config)) for t in missing]
    created = []
    for name, outcome in admin.create_topics(new, operation_timeout=TIMEOUT_S).items():
        try:
            outcome.result()
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":  # another instance was first
                raise
        else:
            created.append(name)
    return created


def _settled(ask: Callable[[], T]) -> T:
    """Wait until every broker knows the topics that were created just now."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART or time.monotonic() > deadline:
                raise
            time.sleep(PAUSE_S)


def _listed(admin: AdminClient, old: list[Topic]) -> dict[str, Any]:
    """Return all topics; KafkaException while these are missing."""
    found: dict[str, Any] = admin.list_topics(timeout=TIMEOUT_S).topics
    if any(topic.name not in found for topic in old):
        raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
    return found


def _configs(admin: AdminClient, old: list[Topic]) -> dict[str, dict[str, str]]:
    if not old:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, topic.name) for topic in old]
    found = admin.describe_configs(resources, request_timeout=TIMEOUT_S)
    return {
        resource.name: {name: entry.value for name, entry in outcome.result().items()}
        for resource, outcome in found.items()
    }


def _differences(topic: Topic, partitions: Mapping[int, Any], config: Mapping[str, str]) -> Iterator[str]:
    if len(partitions) != topic.partitions:
        yield f"partitions: {len(partitions)}, should be {topic.partitions}"
    fewest = min((len(partition.replicas) for partition in partitions.values()), default=0)
    if fewest != topic.replication:
        yield f"replication: {fewest}, should be {topic.replication}"
    for name, value in topic.config.items():
        if config.get(name) != value:
            yield f"{name}: {config.get(name)}, should be {value}"
