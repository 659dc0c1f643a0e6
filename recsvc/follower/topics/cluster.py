"""Asks the brokers for the partitions of the followed topics, and for their first and last offsets."""

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, Self

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # they are public

from recsvc.follower.topics.gathering import Place
from servicekit.kafka.client import quiet_logger

ASK_TIMEOUT_S: Final = 5.0
_ABSENT: Final = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}  # noqa: SLF001  # the client has no others
_spec: Any = OffsetSpec  # whose methods have no types


class Ground(NamedTuple):
    """The partitions of some topics that a Kafka cluster has, with the cluster's id."""

    cluster_id: str
    places: list[Place]


class Cluster:
    """Asks brokers, each time for all partitions at once; KafkaException where they do not answer in time.

    Args:
        client: How to reach the brokers, in librdkafka's properties.
        timeout_s: Seconds that an answer may take.
    """

    def __init__(self, client: Mapping[str, Any], *, timeout_s: float = ASK_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._admin = AdminClient({"client.id": "recsvc", "socket.timeout.ms": 10_000, **client}, logger=quiet_logger())

    def ground(self, topics: Iterable[str]) -> Ground:
        """Return the partitions of those topics that are there, and the cluster's id."""
        self._admin.poll(0)  # which signs in to brokers that ask for a token
        found = self._admin.list_topics(timeout=self._timeout_s)
        wanted = {name: found.topics[name] for name in topics if name in found.topics}
        for topic in wanted.values():
            if topic.error and topic.error.code() not in _ABSENT:
                raise KafkaException(topic.error)
        return Ground(
            str(found.cluster_id), [(name, number) for name, topic in wanted.items() for number in topic.partitions]
        )

    def ends(self, places: Iterable[Place]) -> dict[Place, int]:
        """Return the offset after the last message of each partition."""
        return self._offsets(places, _spec.latest())

    def beginnings(self, places: Iterable[Place]) -> dict[Place, int]:
        """Return the offset of the first message that each partition still has."""
        return self._offsets(places, _spec.earliest())

    def since(self, places: Iterable[Place], at_ms: int) -> dict[Place, int]:
        """Return the offset of the first message at or after a time, below 0 where there is none."""
        return self._offsets(places, _spec.for_timestamp(at_ms))

    def _offsets(self, places: Iterable[Place], asked: Any) -> dict[Place, int]:
        wanted = {TopicPartition(*place): asked for place in places}
        if not wanted:
            return {}
        answers = self._admin.list_offsets(wanted, request_timeout=self._timeout_s)
        found: dict[Place, int] = {}
        for one, answer in answers.items():
            found[one.topic, one.partition] = answer.result(2 * self._timeout_s).offset
        return found


class Reachable:
    """The cluster as it is reached now, for the one thread that asks.

    Args:
        client: How to reach the brokers.
    """

    def __init__(self, client: Mapping[str, Any], connect: Callable[[Mapping[str, Any]], Cluster] = Cluster) -> None:
        self._client = client
        self._connect = connect
        self._cluster: Cluster | None = None
        self._changing = threading.Lock()

    def renew(self, client: Mapping[str, Any]) -> Self:
        """Reach the brokers in this way from now on."""
        with self._changing:
            self._client, self._cluster = client, None
        return self

    def get(self) -> Cluster:
        """Return the cluster; KafkaException where it cannot be reached in this way, as with wrong certificates."""
        with self._changing:
            if self._cluster is None:
                self._cluster = self._connect(self._client)
            return self._cluster
