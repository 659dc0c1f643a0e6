"""Chooses the Kafka of this machine: Apache Kafka where Java can run it, else librdkafka's mock cluster."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deploy.local.child_process import Child, ChildError
from deploy.local.kafka.apache import ApacheKafka
from deploy.local.kafka.jars import VERSION, kafka_jars
from deploy.local.kafka.mock import MockKafka
from servicekit.process.ports import free_port


class Kafka(Protocol):
    """A Kafka cluster on this machine with the topics of the system."""

    child: Child | None

    def start(self) -> str:
        """Start the cluster and return the bootstrap addresses; ChildError if that fails."""

    def stop(self) -> None:
        """End the cluster."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KafkaChoice:
    """A Kafka that can run here.

    Attributes:
        jars: Folder of Apache Kafka's jars; None where it cannot run.
        title: One line that says which it is, and why if it is the second choice.
    """

    jars: Path | None
    title: str

    def over(self, folder: Path, *, port: int | None = None) -> Kafka:
        """Return the cluster over a data folder; only Apache Kafka honours the port."""
        if self.jars is None:
            return MockKafka(folder)
        return ApacheKafka(folder, self.jars, port or free_port())


def choose_kafka() -> KafkaChoice:
    """Return the best Kafka that can run here; fetch Apache Kafka if it is not cached."""
    try:
        return KafkaChoice(jars=kafka_jars(), title=f"Apache Kafka {VERSION} (KRaft, 1 broker)")
    except ChildError as reason:
        return KafkaChoice(jars=None, title=f"librdkafka's mock cluster (3 brokers, in memory), as {reason}")
