"""Starts the whole system in order, keeps it running, and stops it in reverse order."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from deploy.local.child_process import ChildError
from deploy.local.data_folder import DataSet
from deploy.local.first_model import has_model, make_signing_key, prepare, simulate
from deploy.local.kafka.choice import choose_kafka
from deploy.local.kafka.mock import MockKafka
from deploy.local.next_steps import advice
from deploy.local.output import Terminal, say, step
from deploy.local.postgres import Postgres
from deploy.local.program import Service, local_environment
from deploy.local.run_folder import State, short
from deploy.local.watch import Watched, supervise
from deploy.probe import health, serves
from servicekit.process.listening import AddressTakenError, held, holder, wait_until_free


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
    _held: dict[str, ExitStack] = field(default_factory=dict, init=False)

    def run(self) -> None:
        """Serve until the terminal closes or a signal's handler raises; ChildError if a part does not start."""
        terminal = Terminal()
        if self.given:
            self.given.check()
        with self.state.locked(), ExitStack() as parts:
            check_address("RECSVC_LISTEN", self.recsvc_listen)
            check_address("BRIDGE_LISTEN", self.bridge_listen)
            # An outgoing connection of the minutes until then must not find the ports free.
            self._held = {address: ExitStack() for address in (self.recsvc_listen, self.bridge_listen)}
            for address, hold in self._held.items():
                hold.enter_context(held(address))
                parts.callback(hold.close)
            self._start(parts)
            supervise(self.watched, until=lambda: terminal.closed)

    def _start(self, parts: ExitStack) -> None:
        say(f"Starting in {short(self.state.folder)}")
        database = self._start_postgres(parts)
        bootstrap = self._start_kafka(parts)
        data = self.given or DataSet(self.state.simulated)
        env = self._environment(database, bootstrap, data)
        make_signing_key(env)
        simulate(data, env)
        prepare(data, env)
        does = "serves" if self._has_model() else "waits for a model"
        self._serve(parts, "recsvc", self.recsvc_listen, env, does=does, ready=self._recsvc_is_ready)
        self._serve(parts, "bridge", self.bridge_listen, env)
        say(advice(self.state, env))

    def _start_postgres(self, parts: ExitStack) -> str:
        postgres = Postgres(self.state.folder / "postgres", self.state.port("postgres"))
        with step(f"Postgres on port {postgres.port}"):
            parts.callback(postgres.stop)
            url = postgres.start()
            self.state.keep_database_url(url)
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

    def _serve(
        self,
        parts: ExitStack,
        name: str,
        address: str,
        env: Mapping[str, str],
        *,
        does: str = "serves",
        ready: Callable[[str], bool] = serves,
    ) -> None:
        service = Service(name, address, env, self.state.logs / f"{name}.log", ready)
        with step(f"{name} {does} on {address}"):
            parts.callback(service.stop)
            self._held[address].close()
            service.start()
        self.watched.append(Watched(name, service))

    def _recsvc_is_ready(self, address: str) -> bool:
        """Return whether recsvc serves, or at least answers when the store has no model."""
        return serves(address) or (health(address) is not None and not self._has_model())

    def _has_model(self) -> bool:
        return has_model(self.state.models.as_uri())

    def _environment(self, database: str, bootstrap: str, data: DataSet) -> dict[str, str]:
        # The one bridge here is one connection, which one worker answers however many there are.
        return (
            {"RECSVC_WORKERS": "1", "RETRAIN_WORK_DIR": str(self.state.folder / "work")}
            | local_environment(self.shell)
            | {
                "RECSVC_LISTEN": self.recsvc_listen,
                "BRIDGE_LISTEN": self.bridge_listen,
                "LIGHTFM_GRPC_ENDPOINT": self.recsvc_listen,
                "DATABASE_URL": database,
                "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
                "INTERACTIONS_URL": data.url("exports"),
                "CATALOGUE_URL": data.url(),
                "MODEL_STORE_URL": self.state.models.as_uri(),
                "MODEL_SIGNING_KEY_FILE": str(self.state.signing_key),
                "MODEL_VERIFY_KEY_FILE": f"{self.state.signing_key}.pub",
                "MODEL_CACHE_DIR": str(self.state.folder / "model-cache"),
                "TRENDING_SNAPSHOT_PATH": str(self.state.folder / "trending.json"),
            }
        )


def check_address(name: str, address: str) -> None:
    """Raise ChildError with one clear line unless a server can listen on the address."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ChildError(f"{name}={address} is not host:port")
    try:
        wait_until_free(address)
    except AddressTakenError:
        by = f" by {who}" if (who := holder(int(port))) else ""
        raise ChildError(f"{address} is in use{by}: stop that, or set {name}") from None
