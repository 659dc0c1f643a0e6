"""Runs Apache Kafka: one node that is broker and controller (KRaft), on loopback."""

import subprocess
import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.local.child_process import Child, ChildError
from deploy.local.kafka.topics import create_topics
from servicekit.process.ports import free_port, is_open

START_TIMEOUT_S: Final = 180.0
TOPICS_TIMEOUT_S: Final = 60.0
"""From when it listens: it may also have ended since."""
PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
log.dirs={data}
num.partitions=6
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=2000
"""
JAVA: Final = (
    "java",
    "-Xmx512m",
    "-XX:TieredStopAtLevel=1",  # starts in half the time
    "-XX:+UseSerialGC",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
)


@dataclass(slots=True)
class ApacheKafka:
    """A node over one data folder.

    Attributes:
        folder: Data, configuration and log; made when missing. The data survive a restart.
        jars: Folder of Kafka's jars.
        port: TCP port on loopback; kept over restarts.
    """

    folder: Path
    jars: Path
    port: int
    child: Child | None = None

    def start(self) -> str:
        """Start the node, create the topics, and return the bootstrap address; ChildError if that fails."""
        self._configure()
        self.child = Child.start(
            "Kafka",
            [*self._java("kafka.Kafka"), str(self._properties)],
            log=self.folder / "kafka.log",
            cwd=self.folder,
        )
        try:
            self.child.wait_until(lambda: is_open(self.port), timeout_s=START_TIMEOUT_S)
            create_topics(self.bootstrap, timeout_s=TOPICS_TIMEOUT_S)
        except BaseException as error:
            self.child.kill()
            if isinstance(error, TimeoutError):
                raise ChildError(f"Kafka: {error}") from None
            raise
        return self.bootstrap

    def stop(self) -> None:
        """End the node in order."""
        if self.child:
            self.child.stop()

    @property
    def bootstrap(self) -> str:
        """Return the bootstrap address for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def _configure(self) -> None:
        data = self.folder / "data"
        self.folder.mkdir(parents=True, exist_ok=True)
        text = PROPERTIES.format(port=self.port, controller_port=free_port(), data=data)
        self._properties.write_text(text, encoding="utf-8")
        if not (data / "meta.properties").exists():
            self._format()

    def _format(self) -> None:
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = [
            *self._java("kafka.tools.StorageTool"),
            "format",
            f"--cluster-id={cluster}",
            "-c",
            str(self._properties),
        ]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ChildError(f"Kafka's storage could not be made: {(done.stderr or done.stdout).strip()[-200:]}")

    def _java(self, program: str) -> list[str]:
        return [*JAVA, "-cp", f"{self.jars}/*", program]
