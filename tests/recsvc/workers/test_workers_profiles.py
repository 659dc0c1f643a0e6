"""What the workers of a machine know of users: all the same, at once, and whichever of them dies."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from deploy.local.kafka.mock import MockKafka
from tests.recsvc.support.calls import Client
from tests.recsvc.support.connections import one_to_each
from tests.recsvc.support.models import publish, random_model
from tests.recsvc.support.programs import TIMEOUT_S, Program, started
from tests.recsvc.support.stores import prepared_beside
from tests.support.polling import wait_for
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb

pytestmark = pytest.mark.process

VIDEOS = 60


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Two workers and their store."""
    folder = tmp_path_factory.mktemp("workers")
    publish(folder / "store", random_model(1, version="1", videos=VIDEOS))
    prepared_beside(folder / "cache")
    with started(folder, RECSVC_WORKERS="2") as one:
        wait_for(lambda: "workers.all_serving" in one.events(), timeout_s=60, what="both serve")
        with Client.to(one.port()) as client:
            wait_for(lambda: is_taken(client), timeout_s=60, what="the store is there")
        yield one
        one.process.send_signal(signal.SIGTERM)
        one.process.wait(TIMEOUT_S)


def is_taken(client: Client) -> bool:
    try:
        update(client, "somebody", "v1")
    except grpc.RpcError:
        return False
    return True


def update(client: Client, user_id: str, *video_ids: str) -> pb.UpdateUserProfileResponse:
    done = [pb.Interaction(video_id=one, interaction_type=pb.INTERACTION_TYPE_LIKE) for one in video_ids]
    request = pb.UpdateUserProfileRequest(user_id=user_id, interactions=done)
    return client.recommendations.UpdateUserProfile(request, timeout=20)


def page(client: Client, user_id: str) -> pb.RecommendResponse:
    return client.recommendations.Recommend(pb.RecommendRequest(user_id=user_id, page_size=VIDEOS), timeout=20)


def shown(client: Client, user_id: str) -> set[str]:
    return {video.video_id for video in page(client, user_id).videos}


def test_the_next_page_of_every_worker_knows_what_one_was_told(program: Program) -> None:
    """Without a moment between the answer and the page."""
    with one_to_each(program.process.pid, program.port()) as clients:
        one, other = clients.values()
        for number in range(20):
            user, liked = f"told-{number}", f"v{number}"
            assert page(other, user).user_state == pb.USER_STATE_COLD

            told = update(one, user, liked)
            after = page(other, user)

            assert told.durable_on == pb.DURABLE_ON_MACHINE
            assert after.user_state == pb.USER_STATE_FOLDED_IN
            assert liked not in {video.video_id for video in after.videos}
            gone = other.recommendations.DeleteUserProfile(pb.DeleteUserProfileRequest(user_id=user), timeout=20)
            assert gone.durable_on == pb.DURABLE_ON_MACHINE
            assert page(one, user).user_state == pb.USER_STATE_COLD


def test_two_workers_that_update_one_user_at_once_lose_neither(program: Program) -> None:
    with one_to_each(program.process.pid, program.port()) as clients, ThreadPoolExecutor(8) as pool:
        one, other = clients.values()

        list(pool.map(lambda number: update((one, other)[number % 2], "both", f"v{number}"), range(40)))

        for client in (one, other):
            assert shown(client, "both") == {f"v{number}" for number in range(40, VIDEOS)}


def test_a_worker_killed_amid_updates_loses_nothing_that_it_acknowledged(program: Program) -> None:
    """Also none of the other's; both had users of their own and one in common."""
    kept: dict[str, set[str]] = {"own-0": set(), "own-1": set(), "common": set()}
    lock = threading.Lock()

    def tell(number: int, client: Client) -> None:
        for video in range(number, VIDEOS, 2):
            for user in (f"own-{number}", "common"):
                try:
                    update(client, user, f"v{video}")
                except grpc.RpcError:
                    return  # it was killed
                with lock:
                    kept[user].add(f"v{video}")

    with one_to_each(program.process.pid, program.port()) as clients:
        victim = next(iter(clients))
        threads = [
            threading.Thread(target=tell, args=(number, client)) for number, client in enumerate(clients.values())
        ]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(kept["own-0"]) > 5, what="updates under way")
        os.kill(victim, signal.SIGKILL)
        for thread in threads:
            thread.join()
        survivor = next(client for pid, client in clients.items() if pid != victim)
        for user, liked in kept.items():
            assert not liked & shown(survivor, user), user
    wait_for(lambda: program.events().count("workers.all_serving") == 2, timeout_s=60, what="a new worker serves")
    with one_to_each(program.process.pid, program.port()) as clients:
        for client in clients.values():
            for user, liked in kept.items():
                assert not liked & shown(client, user), user
    assert kept["own-1"] == {f"v{video}" for video in range(1, VIDEOS, 2)}


@contextmanager
def machine(folder: Path, bootstrap: str) -> Iterator[Client]:
    """Run a machine of one worker that follows Kafka, with a cache of its own and the common store of models."""
    folder.mkdir(exist_ok=True)
    store = (folder.parent / "store").as_uri()
    with (
        started(folder, MODEL_STORE_URL=store, KAFKA_BOOTSTRAP_SERVERS=bootstrap) as one,
        Client.to(one.port()) as client,
    ):
        wait_for(lambda: is_known_until(client), timeout_s=60, what="Kafka is followed")
        yield client
        one.process.send_signal(signal.SIGTERM)
        one.process.wait(TIMEOUT_S)


def is_known_until(client: Client) -> bool:
    request = pb.GetUserProfileRequest(user_id="u1")
    return client.recommendations.GetUserProfile(request, timeout=20).profile.HasField("known_until")


def update_by_kafka(client: Client, user_id: str, video_id: str) -> bool:
    return update(client, user_id, video_id).durable_on == pb.DURABLE_ON_KAFKA


def test_what_one_machine_is_told_every_machine_knows(tmp_path: Path) -> None:
    """By Kafka; what it could not take is known to the machine that was told, and to all when Kafka is back."""
    publish(tmp_path / "store", random_model(1, version="1", videos=VIDEOS))
    kafka = MockKafka(tmp_path / "kafka")
    bootstrap = kafka.start()
    assert kafka.child
    try:
        with machine(tmp_path / "one", bootstrap) as one, machine(tmp_path / "other", bootstrap) as other:
            wait_for(lambda: update_by_kafka(one, "told", "v1"), what="taken by Kafka")
            wait_for(lambda: page(other, "told").user_state == pb.USER_STATE_FOLDED_IN, what="known there")
            assert "v1" not in shown(other, "told")

            kafka.child.suspend()
            wait_for(lambda: not update_by_kafka(one, "kept", "v2"), what="not taken by Kafka")
            assert "v2" not in shown(one, "kept")
            assert page(other, "kept").user_state == pb.USER_STATE_COLD

            kafka.child.resume()
            wait_for(lambda: page(other, "kept").user_state == pb.USER_STATE_FOLDED_IN, timeout_s=60, what="relayed")

            other.recommendations.DeleteUserProfile(pb.DeleteUserProfileRequest(user_id="told"), timeout=20)
            assert page(other, "told").user_state == pb.USER_STATE_COLD
            wait_for(lambda: page(one, "told").user_state == pb.USER_STATE_COLD, timeout_s=60, what="forgotten here")
    finally:
        kafka.stop()
