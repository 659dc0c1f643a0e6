"""The RPCs over a real channel."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2

from recsvc.app import SERVICES, RecommendationServer
from recsvc.grpc_api.api_version import API_VERSION, KEY
from servicekit.storage.object_store import FileStore
from servicekit.telemetry.metrics import NoMetrics
from tests.recsvc.support.calls import Client, Failure, code_of
from tests.recsvc.support.models import DATA_UNTIL, TRAINED_AT, publish, random_model
from tests.support.grpc.grpcurl import Grpcurl
from tests.support.polling import wait_for
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb

pytestmark = pytest.mark.peer

API = "videowindow.lightfm.v2025_9"


@pytest.fixture(scope="module", params=[True, False], ids=["direct", "plain"])
def direct_calls(request: pytest.FixtureRequest) -> bool:
    """Whether the server speaks to gRPC's core itself: both kinds keep the same promises."""
    return bool(request.param)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, *, direct_calls: bool) -> Path:
    """Where a server's models are: version 3 live, 1 and 2 published before."""
    folder = tmp_path_factory.mktemp(f"served-{direct_calls}")
    for version in ("1", "2", "3"):
        publish(folder / "store", random_model(int(version), version=version))
    return folder


def server_of(folder: Path, *, direct_calls: bool) -> RecommendationServer:
    return RecommendationServer(
        FileStore(folder / "store"),
        folder / "cache",
        NoMetrics(),
        threads=4,
        poll_interval_s=0.02,
        direct_calls=direct_calls,
    )


@pytest.fixture(scope="module")
def port(folder: Path, *, direct_calls: bool) -> Iterator[int]:
    server = server_of(folder, direct_calls=direct_calls)
    yield server.start("127.0.0.1:0")
    server.stop(1)


@pytest.fixture(scope="module")
def client(port: int) -> Iterator[Client]:
    with Client.to(port) as client:
        yield client


def recommend(client: Client, user_id: str = "u1", **fields: Any) -> pb.RecommendResponse:
    return client.recommendations.Recommend(pb.RecommendRequest(user_id=user_id, **fields), timeout=5)


def test_a_page_says_what_ranked_it(client: Client) -> None:
    page = recommend(client)

    assert len(page.videos) == 20
    assert [video.score for video in page.videos] == sorted((video.score for video in page.videos), reverse=True)
    assert (page.algorithm, page.model_version) == ("lightfm-warp", "3")
    assert page.model_trained_at.ToDatetime(TRAINED_AT.tzinfo) == TRAINED_AT
    assert page.user_state == pb.USER_STATE_TRAINED
    assert recommend(client, "nobody").user_state == pb.USER_STATE_COLD


def test_five_pages_without_a_repeat(client: Client) -> None:
    """Fields that may change from page to page do change."""
    shown, token = list[str](), ""
    for index in range(5):
        page = recommend(client, page_size=8 + index, page_token=token, request_id=f"r{index}")
        shown += [video.video_id for video in page.videos]
        token = page.next_page_token

    assert len(set(shown)) == len(shown) == 50
    assert token == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"user_id": "u2"},
        {"surface": "search"},
        {"include_seen": True},
        {"exclude_video_ids": ["v1"]},
        {"filter": pb.VideoFilter(any_tags=["t1"])},
    ],
)
def test_a_token_belongs_to_its_request(client: Client, changes: dict[str, Any]) -> None:
    token = recommend(client, "u1", surface="home").next_page_token

    failure = Failure.of(
        lambda: recommend(client, **{"user_id": "u1", "surface": "home", "page_token": token, **changes})
    )

    assert (failure.code, failure.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("page_token",))
    assert "another request" in failure.message


def test_an_oversized_page_is_cut_to_the_most(client: Client) -> None:
    assert len(recommend(client, "nobody", page_size=2**31 - 1).videos) == 60


def test_excluded_and_filtered_videos_are_not_returned(client: Client) -> None:
    best = [video.video_id for video in recommend(client, page_size=3).videos]
    narrow = pb.VideoFilter(any_author_ids=["a1"], min_duration_ms=0)

    assert not set(best) & {video.video_id for video in recommend(client, exclude_video_ids=best).videos}
    assert 0 < len(recommend(client, filter=narrow).videos) < 20


def test_a_filter_that_leaves_nothing_is_an_empty_last_page(client: Client) -> None:
    page = recommend(client, filter=pb.VideoFilter(any_tags=["unknown"]))

    assert (list(page.videos), page.next_page_token, page.model_version) == ([], "", "3")


def test_ten_thousand_excluded_videos_are_accepted(client: Client) -> None:
    assert recommend(client, exclude_video_ids=[f"v{index}" for index in range(10_000)]).videos == []


LIKE = pb.Interaction(video_id="v1", interaction_type=pb.INTERACTION_TYPE_LIKE)
BAD: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"user_id": ""}, ("user_id",)),
    ({"user_id": "x" * 129}, ("user_id",)),
    ({"user_id": "a\nb"}, ("user_id",)),
    ({"page_size": -1}, ("page_size",)),
    ({"page_token": "garbage!"}, ("page_token",)),
    ({"page_token": "AAAA"}, ("page_token",)),
    ({"surface": "s" * 129}, ("surface",)),
    ({"request_id": "\x00"}, ("request_id",)),
    ({"exclude_video_ids": ["v1"] * 10_001}, ("exclude_video_ids",)),
    ({"exclude_video_ids": ["v1", "", "v2"]}, ("exclude_video_ids[1]",)),
    ({"diversity": -0.1}, ("diversity",)),
    ({"diversity": 1.1}, ("diversity",)),
    ({"diversity": float("nan")}, ("diversity",)),
    ({"filter": pb.VideoFilter(any_tags=["t"] * 101)}, ("filter.any_tags",)),
    ({"filter": pb.VideoFilter(none_author_ids=[""])}, ("filter.none_author_ids[0]",)),
    ({"filter": pb.VideoFilter(min_duration_ms=-1)}, ("filter.min_duration_ms",)),
    ({"filter": pb.VideoFilter(min_duration_ms=2, max_duration_ms=1)}, ("filter.min_duration_ms",)),
    ({"filter": pb.VideoFilter(published_after=Timestamp(seconds=2**60))}, ("filter.published_after",)),
    ({"filter": pb.VideoFilter(published_after=Timestamp(nanos=-1))}, ("filter.published_after",)),
    ({"recent_interactions": [LIKE] * 1001}, ("recent_interactions",)),
    (
        {"recent_interactions": [pb.Interaction(video_id="v1")]},
        ("recent_interactions[0].interaction_type",),
    ),
    (
        {"recent_interactions": [pb.Interaction(video_id="v1", interaction_type=99, watch_time=-1)]},  # type: ignore[arg-type]
        ("recent_interactions[0].interaction_type", "recent_interactions[0].watch_time"),
    ),
    (
        {
            "recent_interactions": [
                pb.Interaction(video_id="v1", interaction_type=pb.INTERACTION_TYPE_RATING, rating=float("inf"))
            ]
        },
        ("recent_interactions[0].rating",),
    ),
    (
        {"user_id": "", "page_size": -5, "filter": pb.VideoFilter(any_tags=[""])},
        ("user_id", "page_size", "filter.any_tags[0]"),
    ),
]


@pytest.mark.parametrize(("fields", "bad"), BAD)
def test_bad_input_names_each_bad_field(client: Client, fields: dict[str, Any], bad: tuple[str, ...]) -> None:
    failure = Failure.of(lambda: recommend(client, **fields))

    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert failure.fields == bad
    assert all(field in failure.message for field in bad)


def test_ten_thousand_bad_fields_are_still_a_readable_error(client: Client) -> None:
    """An error travels in headers, which have a limit."""
    failure = Failure.of(lambda: recommend(client, exclude_video_ids=["\N{CYRILLIC SMALL LETTER YA}" * 99] * 9_999))

    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.fields[:2] == ("exclude_video_ids[0]", "exclude_video_ids[1]")


def test_a_request_above_four_mebibytes_is_refused(client: Client) -> None:
    code = code_of(lambda: recommend(client, exclude_video_ids=["x" * 500] * 10_000))

    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("version", [API_VERSION, None])
def test_replies_name_the_release(client: Client, version: str | None) -> None:
    metadata = ((KEY, version),) if version else ()

    _, call = client.recommendations.Recommend.with_call(
        pb.RecommendRequest(user_id="u1"), timeout=5, metadata=metadata
    )

    assert dict(call.trailing_metadata())[KEY] == API_VERSION
    assert KEY not in dict(call.initial_metadata())


def test_replies_of_a_stream_name_the_release(client: Client) -> None:
    one = pb.RecommendRequest(user_id="u1")
    call = client.recommendations.BatchRecommend(pb.BatchRecommendRequest(requests=[one, one]), timeout=5)

    assert len(list(call)) == 2
    assert dict(call.trailing_metadata())[KEY] == API_VERSION


def test_errors_name_the_release(client: Client) -> None:
    """Unary ones, streams, and calls that name another release; initial metadata would stop retries."""
    calls: list[Callable[[], Any]] = [
        lambda: client.recommendations.Recommend(pb.RecommendRequest(), timeout=5),
        lambda: client.models.GetModel(pb.GetModelRequest(version="none"), timeout=5),
        lambda: next(iter(client.recommendations.BatchRecommend(pb.BatchRecommendRequest(), timeout=5))),
        lambda: client.models.GetModel(pb.GetModelRequest(), timeout=5, metadata=((KEY, "2024.9"),)),
    ]
    for call in calls:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        error: Any = caught.value
        assert dict(error.trailing_metadata())[KEY] == API_VERSION
        assert KEY not in dict(error.initial_metadata())


@pytest.mark.parametrize("version", ["2025.10", "2024.9", ""])
def test_another_release_is_refused(client: Client, version: str) -> None:
    request = pb.RecommendRequest(user_id="u1")
    metadata = ((KEY, version),)

    failure = Failure.of(lambda: client.recommendations.Recommend(request, timeout=5, metadata=metadata))
    model = Failure.of(lambda: client.models.GetModel(pb.GetModelRequest(), timeout=5, metadata=metadata))

    assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "API_VERSION_MISMATCH")
    assert model == failure
    assert API_VERSION in failure.message


def test_the_live_model_is_described(client: Client) -> None:
    model = client.models.GetModel(pb.GetModelRequest(), timeout=5).model

    assert (model.version, model.live, model.format, model.algorithm) == ("3", True, 1, "lightfm-warp")
    assert (model.user_count, model.video_count, model.interaction_count, model.dimensions) == (12, 60, 36, 4)
    expected = {"lightfm.ndcg@20": 0.084, "popularity.ndcg@20": 0.05, "retrieval.recall@20": 1.0}
    assert dict(model.metrics) == expected
    assert model.popularity_weight == 0.5
    assert model.data_until.ToDatetime(DATA_UNTIL.tzinfo) == DATA_UNTIL
    assert client.models.GetModel(pb.GetModelRequest(version="3"), timeout=5).model == model


def test_a_published_model_is_described(client: Client) -> None:
    model = client.models.GetModel(pb.GetModelRequest(version="1"), timeout=5).model

    assert (model.version, model.live) == ("1", False)


@pytest.mark.parametrize(
    ("version", "code", "reason"),
    [
        ("4", grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"),
        ("../store/3", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
        ("broken", grpc.StatusCode.DATA_LOSS, "MODEL_BROKEN"),
        ("folder", grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"),
    ],
)
def test_a_model_that_cannot_be_described(
    client: Client, folder: Path, version: str, code: grpc.StatusCode, reason: str
) -> None:
    """A manifest that is no manifest, and one that the store fails to read."""
    (folder / "store" / "broken").mkdir(exist_ok=True)
    (folder / "store" / "broken" / "manifest.json").write_bytes(b"[]")
    (folder / "store" / "folder" / "manifest.json").mkdir(parents=True, exist_ok=True)

    failure = Failure.of(lambda: client.models.GetModel(pb.GetModelRequest(version=version), timeout=5))

    assert (failure.code, failure.reason) == (code, reason)
    assert str(folder) not in failure.message


def test_models_are_listed_newest_first(client: Client) -> None:
    first = client.models.ListModels(pb.ListModelsRequest(page_size=2), timeout=5)
    second = client.models.ListModels(pb.ListModelsRequest(page_size=200, page_token=first.next_page_token), timeout=5)

    listed = [*first.models, *second.models]
    assert [model.version for model in listed if model.version in "123"] == ["3", "2", "1"]
    assert [model.version for model in listed if model.live] == ["3"]
    assert second.next_page_token == ""


@pytest.mark.parametrize(("field", "value"), [("page_size", -1), ("page_token", "garbage")])
def test_bad_input_to_the_list(client: Client, field: str, value: Any) -> None:
    failure = Failure.of(lambda: client.models.ListModels(pb.ListModelsRequest(**{field: value}), timeout=5))

    assert (failure.code, failure.fields) == (grpc.StatusCode.INVALID_ARGUMENT, (field,))


def test_from_the_command_line(port: int, grpcurl: Grpcurl) -> None:
    """Through reflection, as a data scientist would."""
    address = f"127.0.0.1:{port}"
    assert {*SERVICES, "grpc.health.v1.Health"} <= set(grpcurl.services(address))

    page = grpcurl(address, f"{API}.RecommendationService/Recommend", {"user_id": "u1", "page_size": 3}).message
    assert len(page["videos"]) == 3
    assert "3" in page.values()  # the key's spelling depends on the tool
    wrong = grpcurl(address, f"{API}.RecommendationService/Recommend", {"page_size": -1})
    assert wrong.bad_fields == ["user_id", "page_size"]


def test_health_follows_the_first_model(tmp_path: Path, *, direct_calls: bool) -> None:
    """NOT_SERVING and UNAVAILABLE until a model is live; then serving, without a restart."""
    server = server_of(tmp_path, direct_calls=direct_calls)
    with Client.to(server.start("127.0.0.1:0")) as client:
        try:
            assert [client.status(name) for name in ("", *SERVICES)] == ["NOT_SERVING"] * 3
            failure = Failure.of(lambda: recommend(client))
            assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "NO_MODEL")
            assert failure.retry_after_s == 0.02
            assert Failure.of(lambda: client.models.GetModel(pb.GetModelRequest(), timeout=5)) == failure

            publish(tmp_path / "store", random_model(version="1"))
            wait_for(lambda: client.status() == "SERVING", what="SERVING")
            assert recommend(client).model_version == "1"
        finally:
            server.stop(1)


def test_a_swap_between_pages_repeats_nothing(tmp_path: Path, *, direct_calls: bool) -> None:
    publish(tmp_path / "store", random_model(1, version="1"))
    server = server_of(tmp_path, direct_calls=direct_calls)
    with Client.to(server.start("127.0.0.1:0")) as client:
        try:
            first = recommend(client, "nobody", page_size=30)
            publish(tmp_path / "store", random_model(2, version="2"))
            wait_for(lambda: recommend(client).model_version == "2", what="version 2 live")
            second = recommend(client, "nobody", page_size=30, page_token=first.next_page_token)
        finally:
            server.stop(1)

    assert (first.model_version, second.model_version) == ("1", "2")
    shown = [video.video_id for page in (first, second) for video in page.videos]
    assert len(set(shown)) == len(shown) == 60


def test_watchers_of_health_do_not_hold_the_servers_threads(port: int, client: Client) -> None:
    """More of them than the server has threads, and it still answers."""
    calls = [client.health.Watch(health_pb2.HealthCheckRequest()) for _ in range(8)]
    try:
        assert [next(iter(call)).status for call in calls] == [health_pb2.HealthCheckResponse.SERVING] * 8
        with Client.to(port) as other:
            assert recommend(other).model_version == "3"
    finally:
        for call in calls:
            call.cancel()
