"""A bridge process of the system under test, with a link that leads to it and one from it to Postgres."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from deploy.local.child_process import Child
from servicekit.process.ports import free_port, is_open
from tests.consistency.link import Link

ROOT: Final = Path(__file__).parents[2]


@dataclass(slots=True)
class Bridge:
    """A bridge that can be killed and started again on its port.

    Attributes:
        folder: Its log and its snapshot go here, under its name.
        number: Which of the bridges it is, from 1.
        clients: What clients come through.
        postgres: What it reaches Postgres through.
    """

    folder: Path
    number: int
    postgres_port: int
    port: int = field(default_factory=free_port)
    child: Child | None = None
    clients: Link = field(init=False)
    postgres: Link = field(init=False)

    def __post_init__(self) -> None:
        """Make the links, which are not open yet."""
        self.clients, self.postgres = Link(self.port), Link(self.postgres_port)

    @property
    def suffix(self) -> str:
        """What tells its name, and those of its links, from the first one's."""
        return "" if self.number == 1 else f"-{self.number}"

    @property
    def name(self) -> str:
        """What faults call it."""
        return f"bridge{self.suffix}"

    def start(self, database_url: str, kafka_port: int) -> None:
        """Start it over a database, and wait until it listens."""
        log = self.folder / f"{self.name}.log"
        command = [sys.executable, "-m", "bridge"]
        environment = self._environment(database_url, kafka_port)
        self.child = Child.start(self.name, command, log=log, cwd=ROOT, env=environment)
        self.child.wait_until(lambda: is_open(self.port), timeout_s=30)

    def stop(self) -> None:
        """End it in order."""
        if self.child:
            self.child.stop(timeout_s=30)
            self.child = None

    def _environment(self, database_url: str, kafka_port: int) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
        return own | {
            "BRIDGE_LISTEN": f"127.0.0.1:{self.port}",
            "DATABASE_URL": database_url.replace(f":{self.postgres_port}/", f":{self.postgres.port}/"),
            "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{kafka_port}",
            "KAFKA_WARM_UP_S": "1",
            "INTERACTION_ORDER_WAIT_S": "120",  # a busy machine must not look like a broken promise
            "LIGHTFM_GRPC_ENDPOINT": "127.0.0.1:1",
            "TRENDING_SNAPSHOT_PATH": str(self.folder / f"trending{self.suffix}.json"),
        }
