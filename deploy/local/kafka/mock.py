"""Runs librdkafka's mock cluster in a process of its own: the Kafka protocol with three brokers, in memory.

Run as `python -m deploy.local.kafka.mock <file>`: the file appears with the bootstrap addresses in it.
"""

import ctypes
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import confluent_kafka

from deploy.local.child_process import Child
from deploy.local.kafka.topics import TOPICS

BROKERS: Final = 3
START_TIMEOUT_S: Final = 15.0
PRODUCER: Final = 0  # RD_KAFKA_PRODUCER


@dataclass(slots=True)
class MockKafka:
    """A mock cluster; its data end with it.

    Attributes:
        folder: Where its log and addresses go.
    """

    folder: Path
    bootstrap: str = ""
    child: Child | None = None

    def start(self) -> str:
        """Start the cluster with the topics, and return the bootstrap addresses; ChildError if that fails."""
        address = self.folder / "bootstrap"
        address.unlink(missing_ok=True)
        self.child = Child.start(
            "Kafka",
            [sys.executable, "-m", "deploy.local.kafka.mock", str(address)],
            log=self.folder / "kafka.log",
            cwd=Path(__file__).parents[3],
        )
        self.child.wait_until(address.exists, timeout_s=START_TIMEOUT_S)
        self.bootstrap = address.read_text(encoding="ascii")
        return self.bootstrap

    def stop(self) -> None:
        """End the cluster."""
        if self.child:
            self.child.stop()


def main() -> None:
    """Serve until a signal ends the process."""
    library = _library()
    reason = ctypes.create_string_buffer(512)
    client = library.rd_kafka_new(PRODUCER, library.rd_kafka_conf_new(), reason, ctypes.sizeof(reason))
    if not client:
        sys.exit(f"error: {reason.value.decode()}")
    cluster = library.rd_kafka_mock_cluster_new(client, BROKERS)
    for topic, partitions in TOPICS.items():
        if library.rd_kafka_mock_topic_create(cluster, topic.encode(), partitions, BROKERS):
            sys.exit(f"error: topic {topic} could not be made")
    _announce(Path(sys.argv[1]), library.rd_kafka_mock_cluster_bootstraps(cluster).decode())
    while True:
        signal.pause()


def _announce(path: Path, address: str) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(address, encoding="ascii")
    draft.rename(path)


def _library() -> Any:
    """Return the librdkafka of the Python client, with the types of the functions used here."""
    package = Path(confluent_kafka.__file__).parent
    found = [*package.parent.glob("confluent_kafka.libs/librdkafka*"), *package.glob(".dylibs/librdkafka*")]
    if not found:
        sys.exit("error: confluent_kafka brings no librdkafka")
    library = ctypes.CDLL(str(found[0]))
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
        ("rd_kafka_conf_new", pointer, ()),
        ("rd_kafka_new", pointer, (number, pointer, text, ctypes.c_size_t)),
        ("rd_kafka_mock_cluster_new", pointer, (pointer, number)),
        ("rd_kafka_mock_cluster_bootstraps", text, (pointer,)),
        ("rd_kafka_mock_topic_create", number, (pointer, text, number, number)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


if __name__ == "__main__":
    main()
