"""A page's way through recsvc stays short."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from recsvc.app import RecommendationServer
from servicekit.storage.object_store import FileStore
from servicekit.telemetry.metrics import NoMetrics
from tests.recsvc.support.calls import Client
from tests.recsvc.support.models import publish, random_model
from tests.support.walk import Length, Walk, traced
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb

pytestmark = pytest.mark.peer

MAX_MODULES = 27
MAX_HOPS = 54


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Client, Walk]]:
    publish(tmp_path / "store", random_model(1, version="1"))
    with traced() as walk:
        server = RecommendationServer(
            FileStore(tmp_path / "store"), tmp_path / "cache", NoMetrics(), threads=2, poll_interval_s=600
        )
        with Client.to(server.start("127.0.0.1:0")) as client:
            yield client, walk
        server.stop(1)


def test_a_page_passes_few_modules(served: tuple[Client, Walk]) -> None:
    client, walk = served
    paths = []
    for user in range(1, 8):
        with walk.recorded():
            client.recommendations.Recommend(pb.RecommendRequest(user_id=f"u{user}"), timeout=5)
        paths.append(walk.path("recsvc/grpc_api/recommendation_service"))
    path = min(filter(None, paths), key=len)
    length = Length.of(path)
    assert length.modules <= MAX_MODULES, path
    assert length.hops <= MAX_HOPS, path
