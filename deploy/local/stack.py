"""Brings the whole system up in order, keeps it up, and takes it down in reverse order."""

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from deploy.local.advice import advice
from deploy.local.child import Child, ChildError
from deploy.local.console import say, step
from deploy.local.dataset import DataSet
from deploy.local.kafka import choose_kafka
from deploy.local.kafka_mock import MockKafka
from deploy.local.ports import is_free
from deploy.local.postgres import Postgres
from deploy.local.seed import seed
from deploy.local.service import ROOT, Service
from deploy.local.state import State
from deploy.local.supervisor import Watched, supervise

JOB_TIMEOUT_S: Final = 24 * 60 * 60.0


@dataclass(slots=True)
class Stack:
    """The system over one data set.

    Attributes:
        state: The folder that it keeps its data in.
        given: The data set; None simulates one.
        recsvc_listen: `host:port` of recsvc.
        bridge_listen: `host:port` of the bridge.
        shell: The environment that the programs inherit.
    """

    state: State
    given: DataSet | None
    recsvc_listen: str
    bridge_listen: str
    shell: Mapping[str, str]
    watched: list[Watched] = field(default_factory=list, init=False)

    def run(self) -> None:
        """Serve until a signal's handler raises; ChildError when a part does not start."""
        self._check()
        with self.state.locked(), ExitStack() as parts:
            self._start(parts)
            supervise(self.watched)

    def _check(self) -> None:
        if self.given:
            self.given.check()
        for name, address in (("RECSVC_LISTEN", self.recsvc_listen), ("BRIDGE_LISTEN", self.bridge_listen)):
            check_address(name, address)

    def _start(self, parts: ExitStack) -> None:
        say(f"Starting in {self.state.folder}")
        database = self._start_postgres(parts)
        bootstrap = self._start_kafka(parts)
        data = self.given or self._simulated()
        env = self._environment(database, bootstrap, data)
        self._prepare(database, data, env)
        self._serve(parts, "recsvc", self.recsvc_listen, env)
        self._serve(parts, "bridge", self.bridge_listen, env)
        say(advice(self.state, env))

    def _start_postgres(self, parts: ExitStack) -> str:
        postgres = Postgres(self.state.folder / "postgres", self.state.port("postgres"))
        with step(f"Postgres on port {postgres.port}"):
            parts.callback(postgres.stop)
            url = postgres.start()
        self.watched.append(Watched("Postgres", postgres))
        return url

    def _start_kafka(self, parts: ExitStack) -> str:
        with step("Kafka") as current:
            choice = choose_kafka()
            kafka = choice.over(self.state.folder / "kafka", port=self.state.port("kafka"))
            parts.callback(kafka.stop)
            bootstrap = kafka.start()
            current.title = f"{choice.title} on {bootstrap}"
        if not isinstance(kafka, MockKafka):  # which would come back elsewhere and empty
            self.watched.append(Watched("Kafka", kafka))
        return bootstrap

    def _simulated(self) -> DataSet:
        data = DataSet(self.state.simulated)
        if not data.exports:
            with step("Simulated a small feed (made-up viewers and videos; DATA=<folder> takes your own)"):
                run_job("simulate", ["retrain", "simulate", "--output", str(data.folder)], self._shell())
        return data

    def _prepare(self, database: str, data: DataSet, env: Mapping[str, str]) -> None:
        """Bring schema, history and model to where the services can start."""
        with step("Database schema"):
            run_job("migrate", ["bridge", "migrate"], env)
        with step("History in Postgres") as current:
            current.title = f"History in Postgres: {seed(database, data):,} new rows"
        if not (self.state.models / "current.json").exists():
            with step("First model"):
                run_job("retrain", ["retrain", "run"], env)

    def _serve(self, parts: ExitStack, name: str, address: str, env: Mapping[str, str]) -> None:
        service = Service(name, address, env, self.state.logs / f"{name}.log")
        with step(f"{name} serves on {address}"):
            parts.callback(service.stop)
            service.start()
        self.watched.append(Watched(name, service))

    def _shell(self) -> dict[str, str]:
        """Return the inherited environment without a Datadog agent: this is no deployment to watch."""
        return {name: value for name, value in self.shell.items() if not name.startswith("DD_")}

    def _environment(self, database: str, bootstrap: str, data: DataSet) -> dict[str, str]:
        return self._shell() | {
            "RECSVC_LISTEN": self.recsvc_listen,
            "BRIDGE_LISTEN": self.bridge_listen,
            "LIGHTFM_GRPC_ENDPOINT": self.recsvc_listen,
            "DATABASE_URL": database,
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "INTERACTIONS_URL": data.url("exports"),
            "CATALOGUE_URL": data.url(),
            "MODEL_STORE_URL": self.state.models.as_uri(),
            "MODEL_CACHE_DIR": str(self.state.folder / "model-cache"),
            "TRENDING_SNAPSHOT_PATH": str(self.state.folder / "trending.json"),
        }


def check_address(name: str, address: str) -> None:
    """Raise ChildError with one clear line unless a server could listen there."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ChildError(f"{name}={address} is not host:port")
    if not is_free(host.strip("[]"), int(port)):
        raise ChildError(f"{address} is in use: stop what listens there, or set {name}")


def run_job(name: str, module: list[str], env: Mapping[str, str]) -> None:
    """Run a program of the system to its end with its output shown here; ChildError when it fails."""
    job = Child.start(name, [sys.executable, "-m", *module], log=None, env=env, cwd=ROOT)
    try:
        status = job.process.wait(JOB_TIMEOUT_S)
    finally:
        job.stop()
    if status:
        raise ChildError(f"{name} failed with status {status}")
