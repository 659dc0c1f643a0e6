"""The system under test: real Postgres and Apache Kafka, bridge processes, and links between them."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from deploy.local.child_process import Child
from deploy.local.kafka.apache import ApacheKafka
from deploy.local.kafka.jars import kafka_jars
from deploy.local.postgres import Postgres
from servicekit.process.ports import free_port
from tests.consistency.bridge import Bridge
from tests.consistency.disk import Disk
from tests.consistency.link import KafkaLink, Link

T = TypeVar("T")


@dataclass(slots=True)
class ProxiedKafka(ApacheKafka):
    """A broker with a second listener, whose clients are told to come through a link."""

    link_target: int = 0
    link_port: int = 0

    def _configure(self) -> None:
        ApacheKafka._configure(self)
        text = self._properties.read_text(encoding="utf-8")
        for name, port in (("listeners", self.link_target), ("advertised.listeners", self.link_port)):
            text = text.replace(f"\n{name}=", f"\n{name}=PROXIED://127.0.0.1:{port},")
        text += "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT\n"
        self._properties.write_text(text + "inter.broker.listener.name=PLAINTEXT\n", encoding="utf-8")


class Loop:
    """An event loop in a thread, as processes must be started from the main thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def call(self, work: Any) -> None:
        """Call soon."""
        self._loop.call_soon_threadsafe(work)

    def spawn(self, work: Coroutine[Any, Any, T]) -> Any:
        """Start, and return a future."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Cluster:
    """Postgres, Kafka, and bridges over a database of their own for each run."""

    def __init__(self, folder: Path, loop: Loop, *, bridges: int = 1) -> None:
        self.loop = loop
        self.disk = Disk(folder / "disk")
        self.postgres = Postgres(self.disk.folder / "postgres")
        self.bridges = [Bridge(folder, number, self.postgres.port) for number in range(1, bridges + 1)]
        kafka_port = free_port()
        self.kafka_link = KafkaLink(kafka_port)
        self.links: dict[str, Link] = {"kafka": self.kafka_link}
        for bridge in self.bridges:
            self.links |= {f"clients{bridge.suffix}": bridge.clients, f"postgres{bridge.suffix}": bridge.postgres}
        for link in self.links.values():
            loop.run(link.open())
        self.kafka = ProxiedKafka(
            folder / "kafka", kafka_jars(), free_port(), link_target=kafka_port, link_port=self.kafka_link.port
        )
        self.database_url = ""

    def open(self) -> None:
        """Start what stays over the runs."""
        self.postgres.start()
        self.kafka.start()

    def close(self) -> None:
        """End everything."""
        self.stop_bridges()
        self.kafka.stop()
        self.postgres.stop()
        for link in self.links.values():
            self.loop.run(link.close())
        self.disk.unmount()

    def start_run(self) -> None:
        """Start the bridges over an empty database."""
        self.database_url = self.postgres.create_database(f"run_{uuid4().hex}")
        for bridge in self.bridges:
            self.start(bridge.name)

    def end_run(self) -> None:
        """End the bridges in order, and drop their database."""
        self.stop_bridges()
        name = conninfo_to_dict(self.database_url)["dbname"]
        with psycopg.connect(self.postgres.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(str(name))))
            connection.execute("CHECKPOINT")  # its log need not be kept any more

    def stop_bridges(self) -> None:
        """End the bridges in order."""
        for bridge in self.bridges:
            bridge.stop()

    def revive_postgres(self) -> None:
        """Start Postgres where it has given up, as it does when its log cannot be written."""
        if not self.child("postgres").running:
            self.postgres.start()

    def lock_postgres(self, *, locked: bool) -> None:
        """Make Postgres read-only, as a standby is, or writable again."""
        value = sql.SQL("on" if locked else "off")
        with psycopg.connect(self.postgres.url("postgres"), autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(sql.SQL("ALTER SYSTEM SET default_transaction_read_only = {}").format(value))
            connection.execute("SELECT pg_reload_conf()")

    def start(self, target: str) -> None:
        """Start a server again after it was killed."""
        if target == "postgres":
            self.postgres.start()
        elif target == "kafka":
            self.kafka.start()
        else:
            self._bridge(target).start(self.database_url, self.kafka_link.port)

    def child(self, target: str) -> Child:
        """Return a server's process."""
        if target == "postgres":
            child = self.postgres.child
        elif target == "kafka":
            child = self.kafka.child
        else:
            child = self._bridge(target).child
        assert child is not None
        return child

    def _bridge(self, name: str) -> Bridge:
        return next(bridge for bridge in self.bridges if bridge.name == name)


@contextmanager
def running_cluster(folder: Path, *, bridges: int = 1) -> Iterator[Cluster]:
    """Run Postgres and Kafka until the block ends."""
    loop = Loop()
    cluster = Cluster(folder, loop, bridges=bridges)
    try:
        cluster.open()
        yield cluster
    finally:
        cluster.close()
        loop.close()
