"""Runs the peers that benchmarks of the bridge need, each as a process of its own."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from grpc import aio

from benchmarks.feed.model import publish_random_model
from bridge.postgres.migrate import migrate
from deploy.local.kafka.choice import Kafka
from deploy.local.kafka.mock import MockKafka
from deploy.local.postgres import Postgres
from deploy.local.program import ROOT, Service
from deploy.probe import serves
from servicekit.process.ports import free_port
from videowindow.feed.v1 import feed_pb2 as pb
from videowindow.feed.v1.feed_pb2_grpc import FeedServiceStub

USERS = 5_000
VIDEOS = 20_000
DIMENSIONS = 64
PAGE = 20
TRENDING = 3_000
"""Videos with interactions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSize:
    """Sizes of the models that recsvc serves."""

    users: int = USERS
    videos: int = VIDEOS
    dimensions: int = DIMENSIONS


@dataclass(slots=True)
class Peers:
    """The running peers.

    Attributes:
        folder: Everything lies below it.
        stack: Ends what was started.
        environment: Of each service that is started from now on.
        postgres: Holds interactions.
        kafka: Has the topics.
        size: Of the models that are published.
        ready: Whether what listens on an address has started.
        prefix: A command that runs the command of each service.
        services: What was started, by name.
    """

    folder: Path
    stack: ExitStack
    environment: dict[str, str]
    postgres: Postgres
    kafka: Kafka
    size: ModelSize = field(default_factory=ModelSize)
    ready: Callable[[str], bool] = serves
    prefix: Sequence[str] = ()
    services: dict[str, Service] = field(default_factory=dict)

    def recsvc(self, name: str, **environment: str) -> Service:
        """Start a replica of recsvc."""
        address = f"127.0.0.1:{free_port()}"
        own = {"RECSVC_LISTEN": address, "MODEL_CACHE_DIR": str(self.folder / f"cache-{name}")}
        return self._serve(name, "recsvc", address, own | environment)

    def bridge(self, name: str, endpoint: str, **environment: str) -> Service:
        """Start a bridge in front of an endpoint."""
        address = f"127.0.0.1:{free_port()}"
        own = {
            "BRIDGE_LISTEN": address,
            "LIGHTFM_GRPC_ENDPOINT": endpoint,
            "TRENDING_SNAPSHOT_PATH": str(self.folder / f"trending-{name}.json"),
        }
        return self._serve(name, "bridge", address, own | environment)

    def publish(self, version: str, seed: int) -> None:
        """Publish another model and make it live."""
        size = self.size
        publish_random_model(
            self.folder / "models",
            version,
            users=size.users,
            videos=size.videos,
            dimensions=size.dimensions,
            seed=seed,
        )

    def _serve(self, name: str, package: str, address: str, environment: dict[str, str]) -> Service:
        log = self.folder / f"{name}.log"
        service = Service(package, address, self.environment | environment, log, self.ready, self.prefix)
        self.stack.callback(service.stop)
        service.start()
        self.services[name] = service
        return service


DEFAULT_SIZE = ModelSize()


@contextmanager
def running_peers(
    kafka_over: Callable[[Path], Kafka] = MockKafka, *, size: ModelSize = DEFAULT_SIZE
) -> Iterator[Peers]:
    """Start Postgres with interactions, Kafka, and a store with a model; stop all that was started at the end."""
    with tempfile.TemporaryDirectory(prefix="bench-feed-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)  # Postgres runs as another user where this runs as root
        postgres = Postgres(folder / "postgres", durable=False)
        stack.callback(postgres.stop)
        url = postgres.start()
        kafka = kafka_over(folder / "kafka")
        stack.callback(kafka.stop)
        bootstrap = kafka.start()
        migrate(url)
        _fill(url)
        inherited = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG"}}
        environment = inherited | {
            "DATABASE_URL": url,
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "MODEL_STORE_URL": (folder / "models").as_uri(),
            "MODEL_POLL_INTERVAL_S": "1",
            "RECSVC_WORKERS": "1",
            "LOG_LEVEL": "warning",
        }
        peers = Peers(folder, stack, environment, postgres, kafka, size)
        peers.publish("20250902-1", seed=1)
        yield peers


def _fill(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO user_interactions (user_id, video_id, interaction_type, watch_time_ms, occurred_at) "
            "SELECT 'u' || n %% 1000, 'v' || n %% %s, 'watch', 10000, now() - n * interval '1 second' "
            "FROM generate_series(1, 20000) n",
            [TRENDING],
        )


class FaultProxy:
    """The fault proxy in front of recsvc, with its control channel."""

    def __init__(self, upstream: str) -> None:
        command = [sys.executable, "-m", "benchmarks.feed.fault_proxy", upstream]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.address = f"127.0.0.1:{self._line()}"

    def tell(self, **faults: Any) -> None:
        """Replace the current faults; without arguments, remove them."""
        self._say(faults)

    def calls(self) -> int:
        """Return the number of calls since the last time."""
        return int(self._say({"report": True}))

    def stop(self) -> None:
        """Suspend the proxy."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let the suspended proxy run again."""
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End the proxy."""
        self.process.kill()
        self.process.wait()

    def _say(self, message: dict[str, Any]) -> str:
        print(json.dumps(message), file=self.process.stdin, flush=True)
        return self._line()

    def _line(self) -> str:
        return self.process.stdout.readline().strip() if self.process.stdout else ""


class Users:
    """Asks a bridge for pages, and names each outcome in a word."""

    def __init__(self, address: str, *, timeout_s: float = 1.0) -> None:
        self.channel = aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self._feed: Any = FeedServiceStub(self.channel)
        self._timeout_s = timeout_s
        self.reasons: dict[str, int] = {}

    async def page(self, number: int) -> str:
        """Return personal, trending, short (not a full page) or the error's code."""
        request = pb.GetRecommendationsRequest(user_id=f"u{number * 7919 % USERS}", page_size=PAGE)
        try:
            reply = await self._feed.GetRecommendations(request, timeout=self._timeout_s)
        except aio.AioRpcError as error:
            return error.code().name
        if len(reply.videos) != PAGE:
            return "short"
        if reply.served_by == pb.SERVED_BY_LIGHTFM:
            return "personal"
        reason = pb.FallbackReason.Name(reply.fallback_reason).removeprefix("FALLBACK_REASON_").lower()
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        return "trending"

    async def until_personal(self, *, in_row: int = 30, timeout_s: float = 15) -> None:
        """Return once that many pages in a row are personal; TimeoutError when they are not."""
        deadline, found = time.monotonic() + timeout_s, 0
        while found < in_row:
            found = found + 1 if await self.page(found) == "personal" else 0
            if time.monotonic() > deadline:
                raise TimeoutError("pages do not become personal again")
            await asyncio.sleep(0 if found else 0.05)
        self.reasons.clear()
