"""The whole system as processes of its own, for tests from the outside."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb

from deploy.local.data_folder import DataSet
from deploy.local.first_model import prepare
from deploy.local.program import Service, local_environment
from servicekit.process.ports import free_port
from tests.support.dogstatsd import DogStatsdServer
from tests.support.grpc.grpcurl import Grpcurl, Reply

RECOMMENDATIONS: Final = "videowindow.lightfm.v2025_9.RecommendationService"
MODELS: Final = "videowindow.lightfm.v2025_9.ModelService"
FEED: Final = "videowindow.feed.v1.FeedService"
INTERACTIONS: Final = "videowindow.feed.v1.InteractionService"


@dataclass(frozen=True, slots=True)
class System:
    """Both services, running over one data set.

    Attributes:
        data: The data set.
        env: What the programs were started with.
        recsvc: The model server.
        bridge: The gateway.
        dogstatsd: Where their metrics arrive.
        grpcurl: Calls them.
    """

    data: DataSet
    env: dict[str, str]
    recsvc: Service
    bridge: Service
    dogstatsd: DogStatsdServer
    grpcurl: Grpcurl

    def recommend(self, **request: Any) -> Reply:
        """Call recsvc's Recommend."""
        return self.grpcurl(self.recsvc.address, f"{RECOMMENDATIONS}/Recommend", request)

    def feed(self, **request: Any) -> Reply:
        """Call the bridge's GetRecommendations."""
        return self.grpcurl(self.bridge.address, f"{FEED}/GetRecommendations", request)

    def record(self, **interaction: Any) -> Reply:
        """Call the bridge's RecordInteraction."""
        method = f"{INTERACTIONS}/RecordInteraction"
        return self.grpcurl(self.bridge.address, method, {"interaction": interaction})

    def seen_by(self, user_id: str) -> set[str]:
        """Return the videos that the data set shows a user with."""
        rows = self._query('SELECT DISTINCT "videoId" FROM read_parquet(?) WHERE "userId" = ?', user_id)
        return {row[0] for row in rows}

    def users(self, count: int) -> list[str]:
        """Return users with many interactions."""
        rows = self._query('SELECT "userId" FROM read_parquet(?) GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT ?', count)
        return [row[0] for row in rows]

    def _query(self, query: str, parameter: Any) -> list[tuple[Any, ...]]:
        with duckdb.connect() as engine:
            rows: list[tuple[Any, ...]] = engine.execute(
                query, [list(map(str, self.data.exports)), parameter]
            ).fetchall()
            return rows


@contextmanager
def running(
    folder: Path, data: DataSet, database: str, bootstrap: str, grpcurl: Grpcurl, **settings: str
) -> Iterator[System]:
    """Prepare and start the system in a folder, with further settings, and stop it afterwards."""
    with ExitStack() as stack:
        dogstatsd = stack.enter_context(DogStatsdServer())
        addresses = {name: f"127.0.0.1:{free_port()}" for name in ("recsvc", "bridge")}
        env = local_environment(os.environ) | {
            "RECSVC_LISTEN": addresses["recsvc"],
            "RECSVC_WORKERS": "1",
            "BRIDGE_LISTEN": addresses["bridge"],
            "LIGHTFM_GRPC_ENDPOINT": addresses["recsvc"],
            "DATABASE_URL": database,
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "INTERACTIONS_URL": data.url("exports"),
            "CATALOGUE_URL": data.url(),
            "MODEL_STORE_URL": (folder / "models").as_uri(),
            "MODEL_CACHE_DIR": str(folder / "cache"),
            "MODEL_POLL_INTERVAL_S": "0.2",
            "TRENDING_SNAPSHOT_PATH": str(folder / "trending.json"),
            "DD_AGENT_HOST": dogstatsd.host,
            "DD_DOGSTATSD_PORT": str(dogstatsd.port),
            "LOG_LEVEL": "debug",
            **settings,
        }
        prepare(data, env)
        services = [Service(name, address, env, folder / f"{name}.log") for name, address in addresses.items()]
        for service in services:
            stack.callback(service.stop)
            service.start()
        recsvc, bridge = services
        yield System(data, env, recsvc, bridge, dogstatsd, grpcurl)
