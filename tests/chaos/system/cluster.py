"""The system under test: two bridges, a recsvc with two workers, mutual TLS, and everything they depend on."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import psycopg

from benchmarks.feed.stack import ModelSize, Peers, running_peers
from benchmarks.machine import recsvc_workers
from deploy.local.child_process import descendants
from deploy.local.kafka.choice import Kafka
from deploy.local.program import Service
from deploy.probe import serves
from tests.chaos.load.driver import Plan, writers
from tests.chaos.load.generator import Generator
from tests.chaos.load.identities import Identities, bearer
from tests.chaos.system.agent import Agent
from tests.chaos.system.names import AGENT, MODEL_SERVER, NameServer
from tests.chaos.system.store import Store, running_store
from tests.chaos.system.watch import Watch
from tests.consistency.disk import Disk
from tests.consistency.history import SEVERAL, Acknowledged
from tests.consistency.readback import Told
from tests.support.polling import wait_for
from videowindow.feed.v1 import feed_pb2
from videowindow.feed.v1.feed_pb2_grpc import FeedServiceStub

SIZE: Final = ModelSize(users=2_000, videos=5_000, dimensions=32)
BRIDGES: Final = ("bridge", "bridge-2")
RECSVC: Final = "recsvc"
WORKERS: Final = 2
CHANNELS: Final = 3 * WORKERS
"""Connections of an attacker, so that each worker is nearly sure to get one: the kernel hands them out."""
DISK: Final = "96m"
POISON: Final = "poison-"
"""What the names of users begin with whose deeds are poison."""
START_S: Final = 60.0
FALLBACK: Final = 100
"""Videos that the trending page has at least."""


@dataclass(slots=True)
class Cluster:
    """What runs, and what nemeses do things to."""

    peers: Peers
    identities: Identities
    agent: Agent
    store: Store
    disk: Disk
    names: NameServer | None
    model_versions: list[str] = field(default_factory=list)
    generator: Generator = field(init=False)
    watch: Watch = field(init=False)

    @property
    def recsvc(self) -> Service:
        """The model server."""
        return self.peers.services[RECSVC]

    @property
    def bridges(self) -> dict[str, Service]:
        """The gateways that clients know."""
        return {name: self.peers.services[name] for name in BRIDGES}

    @property
    def servers(self) -> dict[str, Service]:
        """All servers that are there from beginning to end."""
        return {RECSVC: self.recsvc, **self.bridges}

    @property
    def endpoint(self) -> str:
        """Where bridges find recsvc."""
        port = self.recsvc.address.rpartition(":")[2]
        return f"{MODEL_SERVER if self.names else '127.0.0.1'}:{port}"

    def channel(self, address: str) -> grpc.Channel:
        """Return a connection of its own to a server."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.secure_channel(address, self.identities.files.channel(), options)

    def bearer(self, user: str, **claims: Any) -> tuple[tuple[str, str], ...]:
        """Return the metadata of a call by a user."""
        return bearer(self.identities.private_key, user, **claims)

    def workers(self) -> set[int]:
        """Return the processes of recsvc's workers."""
        child = self.recsvc.child
        return set(recsvc_workers(child.pid)) if child and child.running else set()

    def follower(self) -> int | None:
        """Return the process that follows Kafka for recsvc, None while there is none."""
        child = self.recsvc.child
        others = set(descendants(child.pid)) - self.workers() if child and child.running else set()
        return next(iter(others), None)

    def publish(self, seed: int) -> str:
        """Make another model live, and return its version."""
        version = f"20250902-{len(self.model_versions) + 1}"
        self.peers.publish(version, seed)
        self.store.publish(self.peers.folder / "models", version)
        self.model_versions.append(version)
        return version

    def live_version(self) -> str:
        """Return the model of a page that a bridge serves now, or nothing where it has none."""
        return self.page("u1").model_version

    def page(self, user: str, bridge: str = BRIDGES[0]) -> feed_pb2.GetRecommendationsResponse:
        """Ask a bridge for a user's page."""
        with self.channel(self.bridges[bridge].address) as channel:
            request = feed_pb2.GetRecommendationsRequest(user_id=user, page_size=20)
            stub: Any = FeedServiceStub(channel)
            reply: feed_pb2.GetRecommendationsResponse = stub.GetRecommendations(
                request, timeout=5, metadata=self.bearer(user)
            )
            return reply

    def fallback_problem(self, since: float) -> str:
        """Return what is wrong with the bridges' trending rankings, which are to be newer than then, or nothing."""
        for name, bridge in self.bridges.items():
            with self.channel(bridge.address) as channel:
                stub: Any = FeedServiceStub(channel)
                request = feed_pb2.GetTrendingRequest(page_size=FALLBACK)
                try:
                    reply = stub.GetTrending(request, timeout=5, metadata=self.bearer("u1"))
                except grpc.RpcError as error:
                    return f"{name}: {error.code().name}"
            if len(reply.videos) < FALLBACK:
                return f"{name} has {len(reply.videos)} trending videos"
            if (age := since - reply.computed_at.ToNanoseconds() / 1e9) > 0:
                return f"{name}'s trending ranking is not renewed, by {age:.0f} s at the end of the fault"
        return ""

    def query(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run SQL on the bridges' database."""
        with psycopg.connect(self.peers.environment["DATABASE_URL"]) as connection:
            cursor = connection.execute(text, values)
            return cursor.fetchall() if cursor.description else []

    def remove_poison(self) -> None:
        """Take out of Postgres what nemeses put there, so that what follows is judged by itself."""
        self.query("DELETE FROM user_interactions WHERE user_id LIKE %s", f"{POISON}%")

    def told(self) -> Told:
        """Return what clients sent, and were told."""
        events = [call for call in self.generator.calls if call.event_id]
        return Told(
            acknowledged=[Acknowledged(call.user, call.event_id, SEVERAL) for call in events if call.is_good],
            refused=sum(not call.is_good for call in events),
            sent={call.event_id: call.watched for call in events},
        )

    def users(self) -> set[str]:
        """Return whose events are checked at the end."""
        return set(writers())


@contextmanager
def running_cluster(
    kafka_over: Callable[[Path], Kafka], *, pages: float, interactions: float, seed: int
) -> Iterator[Cluster]:
    """Run everything under load until the block ends."""
    with ExitStack() as stack:
        peers = stack.enter_context(running_peers(kafka_over, size=SIZE))
        cluster = _assemble(peers, stack)
        _start(cluster)
        plan = Plan(
            addresses=[bridge.address for bridge in cluster.bridges.values()],
            certificate=str(cluster.identities.files.certificate),
            key=str(cluster.identities.files.key),
            authority=str(cluster.identities.files.authority),
            token_key=str(cluster.identities.private_key),
            pages=pages,
            interactions=interactions,
            seed=seed,
            output=str(peers.folder / "calls"),
        )
        cluster.generator = Generator(peers.folder, plan)
        stack.callback(cluster.generator.stop)
        cluster.watch = stack.enter_context(Watch(cluster.servers, cluster.identities.files))
        cluster.generator.start()
        yield cluster


def _assemble(peers: Peers, stack: ExitStack) -> Cluster:
    disk = Disk(peers.folder / "disk", size=DISK)
    stack.callback(disk.unmount)
    names = None
    if not NameServer.missing():
        names = NameServer(peers.folder)
        stack.callback(names.close)
        peers.prefix = names.prefix()
    agent = Agent()
    stack.callback(agent.close)
    identities = Identities(peers.folder / "identities", MODEL_SERVER)
    store = stack.enter_context(running_store())
    peers.ready = lambda address: serves(address, identities.files)
    peers.environment |= {
        **store.environment,
        **identities.environment(),
        "MODEL_STORE_URL": store.url,
        "DD_AGENT_HOST": AGENT if names else "127.0.0.1",
        "DD_DOGSTATSD_PORT": str(agent.port),
        "LOG_LEVEL": "info",
    }
    return Cluster(peers, identities, agent, store, disk, names)


def _start(cluster: Cluster) -> None:
    peers = cluster.peers
    cluster.publish(1)
    peers.recsvc(RECSVC, RECSVC_WORKERS=str(WORKERS), MODEL_CACHE_DIR=str(cluster.disk.folder / "models"))
    for name in BRIDGES:
        start_bridge(cluster, name)
    wait_for(cluster.live_version, timeout_s=START_S, what="personal pages")
    wait_for(lambda: not cluster.fallback_problem(0), timeout_s=START_S, what="trending pages")


def start_bridge(cluster: Cluster, name: str, **environment: str) -> Service:
    """Start another bridge."""
    own = {
        **cluster.identities.token_environment(),
        "LIGHTFM_CONNECTIONS": str(2 * WORKERS),
        "TRENDING_INTERVAL_S": "1",
        "TRENDING_SNAPSHOT_PATH": str(cluster.disk.folder / f"trending-{name}.json"),
        **environment,
    }
    return cluster.peers.bridge(name, cluster.endpoint, **own)
