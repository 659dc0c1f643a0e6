"""Pages of recommendations, asked for from the command line."""

import json
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest

from tests.support.polling import wait_for
from tests.support.system import FEED, INTERACTIONS, MODELS, RECOMMENDATIONS, System

UNKNOWN = "nobody-has-ever-seen-this-user"


def ids(page: dict[str, Any]) -> list[str]:
    return [video["video_id"] for video in page.get("videos", [])]


def test_reflection_lists_the_services(system: System) -> None:
    common = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert {RECOMMENDATIONS, MODELS} | common == set(system.grpcurl.services(system.recsvc.address))
    assert {FEED, INTERACTIONS} | common <= set(system.grpcurl.services(system.bridge.address))


@pytest.mark.parametrize("service", ["", RECOMMENDATIONS, MODELS])
def test_recsvc_is_healthy(system: System, service: str) -> None:
    reply = system.grpcurl(system.recsvc.address, "grpc.health.v1.Health/Check", {"service": service})
    assert reply.message == {"status": "SERVING"}


@pytest.mark.parametrize("service", ["", FEED, INTERACTIONS])
def test_the_bridge_is_healthy(system: System, service: str) -> None:
    reply = system.grpcurl(system.bridge.address, "grpc.health.v1.Health/Check", {"service": service})
    assert reply.message == {"status": "SERVING"}


def test_the_live_model_is_described(system: System) -> None:
    model = system.grpcurl(system.recsvc.address, f"{MODELS}/GetModel").message["model"]
    assert model["live"] is True
    assert int(model["user_count"]) > 0
    assert int(model["video_count"]) > 0
    assert model["version"] == system.recommend(user_id=UNKNOWN).message["model_version"]


def test_a_page_is_found_in_both_logs_by_its_request(system: System) -> None:
    user, request = system.users(1)[0], uuid4().hex
    system.feed(user_id=user, surface="home", request_id=request)

    bridge, recsvc = (
        wait_for(partial(logged, service.log, request), what=f"the page in the log of {service.name}")
        for service in (system.bridge, system.recsvc)
    )
    assert (bridge["event"], bridge["surface"], bridge["served_by"]) == ("page.served", "home", "lightfm")
    assert (recsvc["event"], recsvc["surface"], recsvc["user_state"]) == ("page.made", "home", "TRAINED")
    assert user not in (*bridge.values(), *recsvc.values()), "logs name no users"


def logged(log: Path, request_id: str) -> dict[str, Any]:
    """Return the event with this request's name, empty when there is none yet."""
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if request_id in line and line.endswith("}")]
    return json.loads(lines[0]) if lines else {}


def test_a_known_user_gets_a_personal_page(system: System) -> None:
    user = system.users(1)[0]
    page = system.recommend(user_id=user).message
    assert page["user_state"] == "USER_STATE_TRAINED"
    assert len(ids(page)) == 20
    assert not set(ids(page)) & system.seen_by(user), "earlier exposures count as seen"
    scores = [video["score"] for video in page["videos"]]
    assert scores == sorted(scores, reverse=True)


def test_an_unknown_user_gets_a_full_page(system: System) -> None:
    page = system.recommend(user_id=UNKNOWN).message
    assert (page["user_state"], len(ids(page))) == ("USER_STATE_COLD", 20)


def test_users_get_different_pages(system: System) -> None:
    pages = {tuple(ids(system.recommend(user_id=user).message)) for user in system.users(5)}
    assert len(pages) == 5


@pytest.mark.parametrize("known", [True, False])
def test_the_bridge_passes_the_model_servers_page_on(system: System, *, known: bool) -> None:
    user = system.users(1)[0] if known else UNKNOWN
    page, direct = system.feed(user_id=user).message, system.recommend(user_id=user).message
    assert ids(page) == ids(direct)
    assert (page["served_by"], page["attempts"]) == ("SERVED_BY_LIGHTFM", 1)
    assert page["model_version"] == direct["model_version"]
    assert page["algorithm"] == direct["algorithm"]
    assert page["feed_session_id"]
    assert "fallback_reason" not in page


def test_trending_is_the_same_for_all(system: System) -> None:
    page = system.grpcurl(system.bridge.address, f"{FEED}/GetTrending", {"page_size": 10}).message
    assert len(ids(page)) == 10
    assert page["computed_at"]


@pytest.mark.parametrize("method", ["recommend", "feed"])
@pytest.mark.parametrize("known", [True, False])
def test_five_pages_never_repeat_a_video(system: System, method: str, *, known: bool) -> None:
    request = {"user_id": system.users(2)[1] if known else UNKNOWN, "page_size": 10}
    shown: list[str] = []
    token = ""
    for _ in range(5):
        page = getattr(system, method)(**request, page_token=token).message
        shown += ids(page)
        token = page["next_page_token"]
    assert len(shown) == len(set(shown)) == 50


def test_pages_of_a_feed_belong_to_one_session(system: System) -> None:
    user = system.users(1)[0]
    first = system.feed(user_id=user, page_size=5).message
    second = system.feed(user_id=user, page_size=5, page_token=first["next_page_token"]).message
    assert first["feed_session_id"] == second["feed_session_id"]


@pytest.mark.parametrize("method", ["recommend", "feed"])
@pytest.mark.parametrize("token", ["garbage", "AAAA", "%%%"])
def test_a_token_that_was_never_given_is_refused(system: System, method: str, token: str) -> None:
    refused = getattr(system, method)(user_id=UNKNOWN, page_token=token)
    assert (refused.code, refused.bad_fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["page_token"])


@pytest.mark.parametrize("method", ["recommend", "feed"])
def test_a_token_of_another_request_is_refused(system: System, method: str) -> None:
    mine, other = system.users(2)
    token = getattr(system, method)(user_id=mine, page_size=5).message["next_page_token"]
    refused = getattr(system, method)(user_id=other, page_size=5, page_token=token)
    assert (refused.code, refused.bad_fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["page_token"])


@pytest.mark.parametrize("method", ["recommend", "feed"])
def test_a_negative_page_size_is_refused(system: System, method: str) -> None:
    refused = getattr(system, method)(user_id=UNKNOWN, page_size=-1)
    assert (refused.code, refused.bad_fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["page_size"])
    assert refused.detail("ErrorInfo")["domain"] == "videowindow"


@pytest.mark.parametrize("method", ["recommend", "feed"])
def test_all_bad_fields_are_named_at_once(system: System, method: str) -> None:
    refused = getattr(system, method)(user_id="", page_size=-1)
    assert (refused.code, set(refused.bad_fields)) == (grpc.StatusCode.INVALID_ARGUMENT, {"user_id", "page_size"})


@pytest.mark.parametrize("method", ["recommend", "feed"])
def test_an_oversized_page_is_cut_to_the_most(system: System, method: str) -> None:
    page = getattr(system, method)(user_id=UNKNOWN, page_size=100_000).message
    assert 20 < len(ids(page)) <= 500


@pytest.mark.parametrize("method", ["recommend", "feed"])
def test_a_filter_that_leaves_nothing_gives_an_empty_last_page(system: System, method: str) -> None:
    page = getattr(system, method)(user_id=UNKNOWN, filter={"any_tags": ["no video bears this tag"]}).message
    assert (ids(page), page.get("next_page_token", "")) == ([], "")


def test_another_api_version_is_refused(system: System) -> None:
    refused = system.grpcurl(
        system.recsvc.address,
        f"{RECOMMENDATIONS}/Recommend",
        {"user_id": UNKNOWN},
        headers={"x-lightfm-api-version": "2024.1"},
    )
    assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
