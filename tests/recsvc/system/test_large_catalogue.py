"""A catalogue that is ranked through the index, over real channels: the promises are those of a small one."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from benchmarks.machine import recsvc_workers
from modelstore.artefact import Catalogue, Model, RowLists
from modelstore.id_map import IdMap
from recsvc.app import RecommendationServer
from recsvc.domain.interaction import Interaction, InteractionType
from recsvc.model.serving_model import ServingModel
from recsvc.ranking.approximate import IndexedRanker
from recsvc.ranking.exact import Exclusions
from servicekit.storage.object_store import FileStore
from servicekit.telemetry.metrics import Metric
from tests.recsvc.support.calls import Client
from tests.recsvc.support.models import DATA_UNTIL, manifest_of, publish
from tests.recsvc.support.programs import started
from tests.recsvc.support.rollout import RecordedMetrics
from tests.recsvc.support.stores import count, prepared_beside
from tests.support.grpc.grpcurl import Grpcurl
from tests.support.polling import wait_for
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb

VIDEOS, USERS, DIMENSIONS = 110_000, 200, 16
SHOWN: Final = 100_000
"""Videos that the first user has seen."""
NOTHING: Final = Exclusions()
CUT_OFF_MS: Final = round(DATA_UNTIL.timestamp() * 1000)
MODELS: Final = "videowindow.lightfm.v2025_9.ModelService"


def large_model() -> Model:
    """Return a model of users and videos around fifty centres, with popularity of heavy tail."""
    rng = np.random.default_rng(4)
    centres = rng.standard_normal((50, DIMENSIONS))

    def around(count: int) -> "np.ndarray[Any, np.dtype[np.float32]]":
        near = centres[rng.integers(0, 50, count)] + 0.4 * rng.standard_normal((count, DIMENSIONS))
        return near.astype(np.float32)

    seen = [np.sort(rng.choice(VIDEOS, SHOWN if row == 0 else 50, replace=False)) for row in range(USERS)]
    return Model(
        manifest=manifest_of("1", USERS, VIDEOS, DIMENSIONS),
        users=IdMap.build(f"u{row:03}" for row in range(USERS)),
        videos=IdMap.build(f"v{row:06}" for row in range(VIDEOS)),
        user_factors=around(USERS),
        user_biases=np.zeros(USERS, np.float32),
        video_factors=around(VIDEOS),
        video_biases=rng.standard_normal(VIDEOS, dtype=np.float32),
        popularity=rng.pareto(1.2, VIDEOS).astype(np.float32),
        seen=RowLists(np.cumsum([0, *map(len, seen)]), np.concatenate(seen).astype(np.int32)),
        catalogue=Catalogue(
            authors=IdMap.build([]),
            author_rows=np.full(VIDEOS, -1, np.int32),
            tags=IdMap.build(["common", "rare"]),
            tag_rows=RowLists(np.arange(VIDEOS + 1), (np.arange(VIDEOS) % 1000 == 0).astype(np.int32)),
            durations_ms=np.full(VIDEOS, -1, np.int64),
            published_at_ms=np.full(VIDEOS, -1, np.int64),
        ),
    )


MODEL: Final = large_model()


@dataclass(frozen=True, slots=True)
class Served:
    """A server of the model."""

    server: RecommendationServer
    metrics: RecordedMetrics
    client: Client
    address: str
    folder: Path

    def model(self) -> ServingModel:
        return self.server.live.get()

    def page(self, user_id: str, **fields: Any) -> list[str]:
        request = pb.RecommendRequest(user_id=user_id, page_size=20, **fields)
        return ids(self.client.recommendations.Recommend(request, timeout=20))


def ids(page: pb.RecommendResponse) -> list[str]:
    return [video.video_id for video in page.videos]


def unseen(user_id: str, videos: list[str]) -> bool:
    return not set(MODEL.videos.rows(videos).tolist()) & set(MODEL.seen[MODEL.users.row(user_id)].tolist())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("large")
    publish(folder / "store", MODEL)
    metrics = RecordedMetrics()
    server = RecommendationServer(
        FileStore(folder / "store"), folder / "cache", metrics, threads=4, poll_interval_s=0.1
    )
    port = server.start("127.0.0.1:0")
    with Client.to(port) as client:
        yield Served(server, metrics, client, f"127.0.0.1:{port}", folder)
    server.stop(1)


def test_recall_is_measured_at_load_and_told(served: Served, grpcurl: Grpcurl) -> None:
    """Over the command line and as a metric; the pages of other users confirm it."""
    model = grpcurl(served.address, f"{MODELS}/GetModel", {}).message["model"]
    told = model["metrics"]["retrieval.recall@20"]

    assert isinstance(served.model().ranker, IndexedRanker)
    assert 0.99 <= told <= 1
    wait_for(lambda: served.metrics.gauges.get(Metric.RETRIEVAL_RECALL) == told, what="the metric")
    assert recall(served, 100) >= told - 0.01


def recall(served: Served, users: int) -> float:
    """Return the share of the best 20 that pages of random users hold."""
    rng, ranker = np.random.default_rng(7), served.model().ranker
    hits = []
    for _ in range(users):
        one, other = MODEL.user_factors[rng.integers(0, USERS, 2)]
        user = served.model().user("u001")._replace(vector=(one + other) / 2)
        scores = ranker.scores(user)
        found, best = ranker.top(user, 20, NOTHING), np.argpartition(-scores, 20)[:20]
        np.testing.assert_allclose(found.scores, scores[found.rows] + user.bias, rtol=1e-4, atol=1e-4)
        hits.append(len(set(found.rows.tolist()) & set(best.tolist())) / 20)
    return float(np.mean(hits))


def test_pages_follow_fresh_popularity(served: Served) -> None:
    """Ten thousand videos are liked a day after the model was trained: pages are those of a scan of the new scores."""
    rng = np.random.default_rng(11)
    before = served.model()
    at_ms = CUT_OFF_MS + 24 * 3_600_000
    watched = [f"v{row:06}" for row in rng.choice(VIDEOS, 10_000)]
    count(prepared_beside(served.folder / "cache"), [Interaction(one, InteractionType.LIKE, at_ms) for one in watched])
    assert served.server.freshness.refresh()

    assert served.model().ranker is not before.ranker
    assert np.abs(served.model().prior - before.prior).max() > 0.3
    assert recall(served, 100) >= served.model().ranker.recall - 0.01 >= 0.98


@pytest.mark.parametrize("tag", ["common", "rare"])
def test_filters_and_exclusions_never_leak_and_pages_never_repeat(served: Served, tag: str) -> None:
    """One video in a thousand has the rare tag, so the index alone would leave pages short."""
    first = served.page("u007", filter=pb.VideoFilter(any_tags=[tag]))
    request = pb.RecommendRequest(
        user_id="u007", page_size=20, filter=pb.VideoFilter(any_tags=[tag]), exclude_video_ids=first
    )
    shown: list[str] = []
    for _ in range(4):
        page = served.client.recommendations.Recommend(request, timeout=20)
        assert len(page.videos) == 20
        shown += ids(page)
        request.page_token = page.next_page_token

    assert len(set(shown)) == 80
    assert not set(shown) & set(first)
    assert unseen("u007", shown + first)
    assert all((row % 1000 == 0) == (tag == "rare") for row in MODEL.videos.rows(shown + first).tolist())


def test_a_user_who_has_seen_a_hundred_thousand_videos_gets_full_pages_of_others(served: Served) -> None:
    request = pb.RecommendRequest(user_id="u000", page_size=500)
    shown: list[str] = []
    for _ in range(3):
        page = served.client.recommendations.Recommend(request, timeout=20)
        assert len(page.videos) == 500
        shown += ids(page)
        request.page_token = page.next_page_token
    profile = served.client.recommendations.GetUserProfile(pb.GetUserProfileRequest(user_id="u000"), timeout=20).profile

    assert len(set(shown)) == 1500
    assert unseen("u000", shown)
    assert profile.seen_count == SHOWN


def test_a_user_told_of_a_hundred_thousand_interactions_costs_bounded_memory(served: Served) -> None:
    """The newest thousand are kept; the page is full, and none of them is on it."""
    for start in range(0, 100_000, 1000):
        done = [
            pb.Interaction(
                video_id=f"v{number % VIDEOS:06}",
                interaction_type=pb.INTERACTION_TYPE_WATCH,
                watch_time=1000,
                timestamp=Timestamp(seconds=CUT_OFF_MS // 1000 + number),
            )
            for number in range(start, start + 1000)
        ]
        request = pb.UpdateUserProfileRequest(user_id="u009", interactions=done)
        profile = served.client.recommendations.UpdateUserProfile(request, timeout=20).profile

    assert profile.interaction_count == 1000
    page = served.page("u009")
    assert len(page) == 20
    assert not set(page) & {f"v{number:06}" for number in range(99_000, 100_000)}


def test_ten_thousand_excluded_videos_are_not_returned(served: Served) -> None:
    """They are the user's best."""
    user = served.model().user("u003")
    best = np.argsort(-served.model().ranker.scores(user))[:10_000]

    page = served.page("u003", exclude_video_ids=MODEL.videos.ids(best), include_seen=True)

    assert len(set(page)) == 20
    assert not set(MODEL.videos.rows(page).tolist()) & set(best.tolist())


def test_worker_processes_share_the_index_that_another_process_built(served: Served) -> None:
    """It is mapped from the model's local copy, as it is by the process that built it."""
    lists = served.folder / "cache" / "1" / "index" / "lists.bin"
    kept = lists.stat()
    with started(served.folder, RECSVC_WORKERS="2") as program:
        wait_for(lambda: "workers.all_serving" in program.events(), timeout_s=60, what="both serve")
        workers = recsvc_workers(program.process.pid)
        maps = [Path(f"/proc/{one}/maps").read_text(encoding="utf-8") for one in ("self", *workers)]
        with Client.to(program.port()) as client:
            request = pb.RecommendRequest(user_id="u005", page_size=20)
            page = ids(client.recommendations.Recommend(request, timeout=20))

    assert len(maps) == 3
    assert all(str(lists) in one for one in maps)
    assert (lists.stat().st_ino, lists.stat().st_mtime_ns) == (kept.st_ino, kept.st_mtime_ns)
    assert len(set(page)) == 20
    assert unseen("u005", page)
