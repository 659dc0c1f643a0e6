"""The system under test: real Postgres and Apache Kafka, a bridge process, and links between them."""

import asyncio
import os
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from deploy.local.child import Child
from deploy.local.kafka_apache import ApacheKafka
from deploy.local.kafka_jars import kafka_jars
from deploy.local.ports import free_port, is_open
from deploy.local.postgres import Postgres
from tests.jepsen.disk import Disk
from tests.jepsen.link import KafkaLink, Link

ROOT: Final = Path(__file__).parents[2]
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
    """Postgres, Kafka, and a bridge over a database of its own for each run."""

    def __init__(self, folder: Path, loop: Loop) -> None:
        self._folder = folder
        self.loop = loop
        self.disk = Disk(folder / "disk")
        self.postgres = Postgres(self.disk.folder / "postgres")
        bridge_port, kafka_port = free_port(), free_port()
        self.client_link, self.postgres_link = Link(bridge_port), Link(self.postgres.port)
        self.kafka_link = KafkaLink(kafka_port)
        self.links: dict[str, Link] = {
            "clients": self.client_link,
            "postgres": self.postgres_link,
            "kafka": self.kafka_link,
        }
        for link in self.links.values():
            loop.run(link.open())
        jars = kafka_jars()
        self.kafka = ProxiedKafka(
            folder / "kafka", jars, free_port(), link_target=kafka_port, link_port=self.kafka_link.port
        )
        self._bridge_port = bridge_port
        self._bridge: Child | None = None
        self.database_url = ""

    def open(self) -> None:
        """Start what stays over the runs."""
        self.postgres.start()
        self.kafka.start()

    def close(self) -> None:
        """End everything."""
        self.stop_bridge()
        self.kafka.stop()
        self.postgres.stop()
        for link in self.links.values():
            self.loop.run(link.close())
        self.disk.unmount()

    def start_run(self) -> None:
        """Start a bridge over an empty database."""
        self.database_url = self.postgres.create_database(f"run_{uuid4().hex}")
        self.start("bridge")

    def end_run(self) -> None:
        """End the bridge in order, and drop its database."""
        self.stop_bridge()
        name = conninfo_to_dict(self.database_url)["dbname"]
        with psycopg.connect(self.postgres.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(str(name))))
            connection.execute("CHECKPOINT")  # its log need not be kept any more

    def stop_bridge(self) -> None:
        """End the bridge in order."""
        if self._bridge:
            self._bridge.stop(timeout_s=30)
            self._bridge = None

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
            log = self._folder / "bridge.log"
            command = [sys.executable, "-m", "bridge"]
            self._bridge = Child.start("bridge", command, log=log, cwd=ROOT, env=self._environment())
            self._bridge.wait_until(lambda: is_open(self._bridge_port), timeout_s=30)

    def child(self, target: str) -> Child:
        """Return a server's process."""
        child = {"postgres": self.postgres.child, "kafka": self.kafka.child, "bridge": self._bridge}[target]
        assert child is not None
        return child

    def _environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
        linked = self.database_url.replace(f":{self.postgres.port}/", f":{self.postgres_link.port}/")
        return own | {
            "BRIDGE_LISTEN": f"127.0.0.1:{self._bridge_port}",
            "DATABASE_URL": linked,
            "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{self.kafka_link.port}",
            "KAFKA_WARM_UP_S": "1",
            "INTERACTION_ORDER_WAIT_S": "120",  # a busy machine must not look like a broken promise
            "LIGHTFM_GRPC_ENDPOINT": "127.0.0.1:1",
            "TRENDING_SNAPSHOT_PATH": str(self._folder / "trending.json"),
        }


@contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """Run Postgres and Kafka until the block ends."""
    loop = Loop()
    cluster = Cluster(folder, loop)
    try:
        cluster.open()
        yield cluster
    finally:
        cluster.close()
        loop.close()
