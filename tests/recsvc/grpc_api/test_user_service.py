"""The RPCs about users and videos over a real channel."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from modelstore.erased_users import ErasedUsers
from recsvc.app import RecommendationServer
from recsvc.live_state.preparation import set_aside
from recsvc.local_files.folders import LIVE_STATE
from servicekit.storage.object_store import FileStore
from servicekit.telemetry.metrics import NoMetrics
from servicekit.user_fingerprint import user_fingerprint
from tests.recsvc.support.calls import Client, Failure, code_of
from tests.recsvc.support.directories import NOW_MS
from tests.recsvc.support.models import publish, random_model
from tests.recsvc.support.stores import prepared_beside
from tests.support.grpc.grpcurl import Grpcurl
from tests.support.polling import wait_for
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb

pytestmark = pytest.mark.peer

SERVICE = "videowindow.lightfm.v2025_9.RecommendationService"
MODEL = random_model(3, version="3")
LIKE = pb.Interaction(video_id="v1", interaction_type=pb.INTERACTION_TYPE_LIKE)
WATCH = pb.Interaction(video_id="v2", interaction_type=pb.INTERACTION_TYPE_WATCH, watch_time=20_000)
NAN = float("nan")


def server_of(folder: Path) -> RecommendationServer:
    prepared_beside(folder / "cache")
    return RecommendationServer(
        FileStore(folder / "store"), folder / "cache", NoMetrics(), threads=4, poll_interval_s=0.02
    )


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("served")
    publish(folder / "store", MODEL)
    server = server_of(folder)
    yield server.start("127.0.0.1:0")
    server.stop(1)


@pytest.fixture(scope="module")
def client(port: int) -> Iterator[Client]:
    with Client.to(port) as client:
        yield client


def recommend(client: Client, user_id: str, **fields: Any) -> pb.RecommendResponse:
    return client.recommendations.Recommend(pb.RecommendRequest(user_id=user_id, **fields), timeout=5)


def ids(page: pb.RecommendResponse) -> list[str]:
    return [video.video_id for video in page.videos]


def update(client: Client, user_id: str, *done: pb.Interaction) -> pb.UserProfile:
    request = pb.UpdateUserProfileRequest(user_id=user_id, interactions=done)
    return client.recommendations.UpdateUserProfile(request, timeout=5).profile


def profile(client: Client, user_id: str) -> pb.UserProfile:
    return client.recommendations.GetUserProfile(pb.GetUserProfileRequest(user_id=user_id), timeout=5).profile


def forget(client: Client, user_id: str) -> None:
    client.recommendations.DeleteUserProfile(pb.DeleteUserProfileRequest(user_id=user_id), timeout=5)


def batch(client: Client, *requests: pb.RecommendRequest) -> list[pb.BatchRecommendResponse]:
    return [*client.recommendations.BatchRecommend(pb.BatchRecommendRequest(requests=requests), timeout=20)]


def test_a_user_who_was_only_shown_videos_is_cold_and_sees_none_of_them_again(tmp_path: Path, grpcurl: Grpcurl) -> None:
    """Training held no positive of u1: factors of zero, but videos seen."""
    model = random_model(3, version="3")
    row = model.users.row("u1")
    model.user_factors[row], model.user_biases[row] = 0, 0
    publish(tmp_path / "store", model)
    seen = set(model.videos.ids(model.seen[row]))
    server = server_of(tmp_path)
    address = f"127.0.0.1:{server.start('127.0.0.1:0')}"
    try:
        page = grpcurl(address, f"{SERVICE}/Recommend", {"user_id": "u1", "page_size": 60}).message
        stranger = grpcurl(address, f"{SERVICE}/Recommend", {"user_id": "nobody", "page_size": 60}).message
        known = grpcurl(address, f"{SERVICE}/GetUserProfile", {"user_id": "u1"}).message["profile"]
        liked = {"user_id": "u1", "interactions": [{"video_id": "v7", "interaction_type": "INTERACTION_TYPE_LIKE"}]}
        folded = grpcurl(address, f"{SERVICE}/UpdateUserProfile", liked).message["profile"]
        nobody = grpcurl(address, f"{SERVICE}/GetUserProfile", {"user_id": "nobody"})
    finally:
        server.stop(0)

    assert page["user_state"] == stranger["user_state"] == "USER_STATE_COLD"
    shown = [video["video_id"] for video in page["videos"]]
    assert shown == [video["video_id"] for video in stranger["videos"] if video["video_id"] not in seen]
    assert (known["state"], int(known["seen_count"])) == ("USER_STATE_COLD", len(seen))
    assert (folded["state"], int(folded["seen_count"])) == ("USER_STATE_FOLDED_IN", len(seen | {"v7"}))
    assert nobody.code is grpc.StatusCode.NOT_FOUND


def test_the_next_page_follows_from_an_update(client: Client) -> None:
    before = recommend(client, "fresh")

    known = update(client, "fresh", LIKE, WATCH)
    after = recommend(client, "fresh", page_size=100)

    assert (known.state, known.interaction_count, known.seen_count) == (pb.USER_STATE_FOLDED_IN, 2, 2)
    assert (before.user_state, after.user_state) == (pb.USER_STATE_COLD, pb.USER_STATE_FOLDED_IN)
    assert ids(before) != ids(after)[:20]
    assert not {"v1", "v2"} & set(ids(after))
    assert profile(client, "fresh") == known


def test_the_request_itself_may_tell_what_was_done(client: Client) -> None:
    page = recommend(client, "passing", recent_interactions=[LIKE, WATCH], page_size=100)

    assert page.user_state == pb.USER_STATE_FOLDED_IN
    assert not {"v1", "v2"} & set(ids(page))
    assert recommend(client, "passing").user_state == pb.USER_STATE_COLD


def test_who_is_forgotten_is_cold_at_once_and_unknown(client: Client) -> None:
    assert recommend(client, "u5").user_state == pb.USER_STATE_TRAINED
    update(client, "u5", LIKE)

    forget(client, "u5")

    assert recommend(client, "u5").user_state == pb.USER_STATE_COLD
    assert ids(recommend(client, "u5")) == ids(recommend(client, "stranger"))
    failure = Failure.of(lambda: profile(client, "u5"))
    assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "USER_NOT_FOUND")
    forget(client, "nobody ever")


def test_an_update_after_a_deletion_is_answered_whatever_counts_of_it(client: Client) -> None:
    """What happened before the deletion does not; what happens after it does."""
    update(client, "back", LIKE)
    forget(client, "back")
    old = pb.Interaction(video_id="v1", interaction_type=pb.INTERACTION_TYPE_LIKE)
    old.timestamp.FromSeconds(1_000_000_000)

    known = update(client, "back", old)

    assert (known.user_id, known.state) == ("back", pb.USER_STATE_COLD)
    assert (known.interaction_count, known.seen_count, [*known.top_tags]) == (0, 0, [])
    assert Failure.of(lambda: profile(client, "back")).code is grpc.StatusCode.NOT_FOUND
    wait_for(lambda: update(client, "back", LIKE).state == pb.USER_STATE_FOLDED_IN, what="what happened since")


@pytest.mark.parametrize("version", ["current.json", "forgotten.json", "3.npy", "3"])
def test_what_is_no_model_of_the_store_is_not_found(client: Client, version: str) -> None:
    forget(client, "somebody")  # so that there is a list of the forgotten
    if version == "3":
        assert client.models.GetModel(pb.GetModelRequest(version=version), timeout=5).model.version == "3"
        return
    failure = Failure.of(lambda: client.models.GetModel(pb.GetModelRequest(version=version), timeout=5))

    assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")


def test_who_is_forgotten_stays_so_across_swaps_and_restarts(tmp_path: Path) -> None:
    publish(tmp_path / "store", random_model(1, version="1"))
    server = server_of(tmp_path)
    with Client.to(server.start("127.0.0.1:0")) as client:
        update(client, "fresh", LIKE)
        forget(client, "u1")
        publish(tmp_path / "store", random_model(2, version="2"))
        wait_for(lambda: recommend(client, "u2").model_version == "2", what="version 2 live")
        assert recommend(client, "u1").user_state == pb.USER_STATE_COLD
        assert recommend(client, "fresh").user_state == pb.USER_STATE_FOLDED_IN
    server.stop(1)

    server = server_of(tmp_path)
    with Client.to(server.start("127.0.0.1:0")) as client:
        assert recommend(client, "u1").user_state == pb.USER_STATE_COLD
        assert recommend(client, "fresh").user_state == pb.USER_STATE_FOLDED_IN
    server.stop(1)


def test_who_is_forgotten_is_cold_before_this_machine_has_a_store(tmp_path: Path) -> None:
    """By the list of all servers: the follower may take seconds to check what is on the disk."""
    publish(tmp_path / "store", random_model(1, version="1"))
    ErasedUsers(FileStore(tmp_path / "store")).add(user_fingerprint("u1"), NOW_MS)
    server = RecommendationServer(
        FileStore(tmp_path / "store"), tmp_path / "new", NoMetrics(), threads=2, poll_interval_s=600
    )
    with Client.to(server.start("127.0.0.1:0")) as client:
        assert recommend(client, "u1").user_state == pb.USER_STATE_COLD
        assert recommend(client, "u2").user_state == pb.USER_STATE_TRAINED
        with prepared_beside(tmp_path / "new").writing() as batch:
            batch.forget(user_fingerprint("u2"), NOW_MS)
        wait_for(lambda: recommend(client, "u2").user_state == pb.USER_STATE_COLD, what="the store counts")
        set_aside(tmp_path / "new" / LIVE_STATE)
        wait_for(lambda: recommend(client, "u2").user_state == pb.USER_STATE_TRAINED, what="the store is gone")
        wait_for(lambda: recommend(client, "u1").user_state == pb.USER_STATE_COLD, what="the list counts again")
    server.stop(1)


def test_scores_stand_in_the_order_of_the_request_and_equal_those_of_the_page(client: Client) -> None:
    page = recommend(client, "u1", page_size=5)
    asked = ["unknown", *reversed(ids(page)), ids(page)[0], ""]
    reply = client.recommendations.ScoreVideos(pb.ScoreVideosRequest(user_id="u1", video_ids=asked[:-1]), timeout=5)

    scores = {video.video_id: video.score for video in page.videos}
    assert [one.video_id for one in reply.scores] == asked[:-1]
    assert [one.known for one in reply.scores] == [False] + [True] * 6
    assert [one.score for one in reply.scores] == [0.0] + [scores[name] for name in asked[1:-1]]
    assert (reply.model_version, reply.user_state) == ("3", pb.USER_STATE_TRAINED)


def test_similar_videos_page_by_page(client: Client) -> None:
    """Against cosines computed one by one; the video itself is not among them, and none comes twice."""
    found, token = list[pb.ScoredVideo](), ""
    while True:
        request = pb.ListSimilarVideosRequest(video_id="v7", page_size=13, page_token=token)
        reply = client.recommendations.ListSimilarVideos(request, timeout=5)
        found += reply.videos
        token = reply.next_page_token
        if not token:
            break

    factors = MODEL.video_factors.astype(float)
    own = factors[MODEL.videos.row("v7")]
    lengths = (factors**2).sum(axis=1) ** 0.5
    expected = {
        name: float(factors[row] @ own / lengths[row] / (own @ own) ** 0.5)
        for row, name in enumerate(MODEL.videos.ids(MODEL.videos.rows([f"v{index}" for index in range(60)]).clip(0)))
        for row in [MODEL.videos.row(name)]
        if name != "v7" and lengths[row] > 0
    }
    assert {video.video_id: video.score for video in found} == pytest.approx(expected, abs=1e-6)
    assert len(found) == len(expected)
    assert [video.score for video in found] == sorted((video.score for video in found), reverse=True)


def test_similar_videos_through_a_filter(client: Client) -> None:
    narrow = pb.VideoFilter(any_tags=["t1"])
    reply = client.recommendations.ListSimilarVideos(
        pb.ListSimilarVideosRequest(video_id="v7", filter=narrow, page_size=100), timeout=5
    )

    lists, tags = MODEL.catalogue.tag_rows, MODEL.catalogue.tags
    assert reply.videos
    for video in reply.videos:
        assert "t1" in tags.ids(lists[MODEL.videos.row(video.video_id)])
    other = pb.ListSimilarVideosRequest(video_id="v8", page_token=recommend(client, "u1").next_page_token)
    failure = Failure.of(lambda: client.recommendations.ListSimilarVideos(other, timeout=5))
    assert failure.fields == ("page_token",)


def test_variety_changes_the_order_and_none_of_the_promises(client: Client) -> None:
    plain = recommend(client, "u1", page_size=10)
    shown, token = list[str](), ""
    while True:
        page = recommend(client, "u1", page_size=10, diversity=0.7, page_token=token, exclude_video_ids=["v9"])
        shown += ids(page)
        token = page.next_page_token
        if not token:
            break

    assert recommend(client, "u1", page_size=10, diversity=0.0) == plain
    assert shown[:10] != ids(plain)
    assert len(set(shown)) == len(shown)
    assert set(shown) == set(ids(recommend(client, "u1", page_size=500, exclude_video_ids=["v9"])))


def test_a_page_explains_itself_when_asked(client: Client) -> None:
    told = recommend(client, "u1", explain=True, recent_interactions=[LIKE])

    reasons = [reason for video in told.videos for reason in video.reasons]
    assert reasons
    assert all(reason.kind and reason.text and 0 < reason.weight <= 1 for reason in reasons)
    assert not any(video.reasons for video in recommend(client, "u1").videos)


def test_in_a_batch_each_bad_request_fails_alone(client: Client) -> None:
    requests = [
        pb.RecommendRequest(user_id="u1", page_size=3),
        pb.RecommendRequest(user_id="", page_size=-1),
        pb.RecommendRequest(user_id="nobody", page_size=4),
        pb.RecommendRequest(user_id="u1", page_token="damaged"),  # noqa: S106  # no password
    ]

    replies = batch(client, *requests)

    assert [reply.index for reply in replies] == [0, 1, 2, 3]
    assert replies[0].response == recommend(client, "u1", page_size=3)
    assert replies[2].response == recommend(client, "nobody", page_size=4)
    assert [(one.error.code, one.error.reason, one.error.field) for one in (replies[1], replies[3])] == [
        (grpc.StatusCode.INVALID_ARGUMENT.value[0], "INVALID_ARGUMENT", "user_id"),
        (grpc.StatusCode.INVALID_ARGUMENT.value[0], "INVALID_ARGUMENT", "page_token"),
    ]


def test_ten_thousand_requests_are_one_batch(client: Client) -> None:
    requests = [pb.RecommendRequest(user_id=f"u{index}", page_size=1) for index in range(10_000)]

    replies = batch(client, *requests)

    assert [reply.index for reply in replies] == list(range(10_000))
    assert all(reply.HasField("response") for reply in replies)


BAD: list[tuple[str, Any, tuple[str, ...]]] = [
    ("BatchRecommend", pb.BatchRecommendRequest(), ("requests",)),
    ("BatchRecommend", pb.BatchRecommendRequest(requests=[pb.RecommendRequest()] * 10_001), ("requests",)),
    ("ScoreVideos", pb.ScoreVideosRequest(), ("user_id", "video_ids")),
    ("ScoreVideos", pb.ScoreVideosRequest(user_id="u", video_ids=["a", ""]), ("video_ids[1]",)),
    ("ScoreVideos", pb.ScoreVideosRequest(user_id="u", video_ids=["a"] * 10_001), ("video_ids",)),
    ("ListSimilarVideos", pb.ListSimilarVideosRequest(page_size=-1), ("video_id", "page_size")),
    ("ListSimilarVideos", pb.ListSimilarVideosRequest(video_id="v1", page_token="x"), ("page_token",)),  # noqa: S106  # no password
    ("GetUserProfile", pb.GetUserProfileRequest(), ("user_id",)),
    ("GetUserProfile", pb.GetUserProfileRequest(user_id="a\n"), ("user_id",)),
    ("DeleteUserProfile", pb.DeleteUserProfileRequest(user_id="x" * 129), ("user_id",)),
    ("UpdateUserProfile", pb.UpdateUserProfileRequest(), ("user_id", "interactions")),
    ("UpdateUserProfile", pb.UpdateUserProfileRequest(user_id="u", interactions=[LIKE] * 100_000), ("interactions",)),
    (
        "UpdateUserProfile",
        pb.UpdateUserProfileRequest(user_id="u", interactions=[LIKE, pb.Interaction(watch_time=-1)]),
        ("interactions[1].video_id", "interactions[1].interaction_type", "interactions[1].watch_time"),
    ),
    (
        "UpdateUserProfile",
        pb.UpdateUserProfileRequest(
            user_id="u",
            interactions=[pb.Interaction(video_id="v", interaction_type=pb.INTERACTION_TYPE_RATING, rating=NAN)],
        ),
        ("interactions[0].rating",),
    ),
    ("Recommend", pb.RecommendRequest(user_id="u", diversity=NAN), ("diversity",)),
    ("Recommend", pb.RecommendRequest(user_id="u", diversity=1.5), ("diversity",)),
]


@pytest.mark.parametrize(
    ("method", "request_", "fields"), BAD, ids=lambda value: value if isinstance(value, str) else ""
)
def test_bad_input_names_its_fields(client: Client, method: str, request_: Any, fields: tuple[str, ...]) -> None:
    call = getattr(client.recommendations, method)

    failure = Failure.of(
        lambda: [*call(request_, timeout=5)] if method == "BatchRecommend" else call(request_, timeout=5)
    )

    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert failure.fields == fields


def test_an_unknown_video_has_no_neighbours(client: Client) -> None:
    request = pb.ListSimilarVideosRequest(video_id="unknown")

    failure = Failure.of(lambda: client.recommendations.ListSimilarVideos(request, timeout=5))

    assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "VIDEO_NOT_FOUND")


def test_interactions_with_unknown_videos_are_kept_for_a_model_that_knows_them(client: Client) -> None:
    known = update(client, "early", pb.Interaction(video_id="soon", interaction_type=pb.INTERACTION_TYPE_LIKE))

    assert (known.state, known.interaction_count, known.seen_count) == (pb.USER_STATE_COLD, 1, 0)


def test_a_batch_of_five_megabytes_is_refused(client: Client) -> None:
    requests = [pb.RecommendRequest(user_id="u1", exclude_video_ids=["x" * 500])] * 10_000

    assert code_of(lambda: batch(client, *requests)) is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_from_the_command_line(port: int, grpcurl: Grpcurl) -> None:
    """As a data scientist would: fold a user in, look the profile up, see why a video was recommended."""
    address = f"127.0.0.1:{port}"
    done = [{"video_id": "v1", "interaction_type": "INTERACTION_TYPE_LIKE"}]

    grpcurl(address, f"{SERVICE}/UpdateUserProfile", {"user_id": "typed", "interactions": done})
    known = grpcurl(address, f"{SERVICE}/GetUserProfile", {"user_id": "typed"}).message["profile"]
    page = grpcurl(address, f"{SERVICE}/Recommend", {"user_id": "typed", "explain": True}).message

    assert known["state"] == "USER_STATE_FOLDED_IN"
    assert "Similar to v1, which you liked" in str(page)
