"""The follower beside the workers: health tells of it, its death harms nobody, and it is started again."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.kafka.mock import MockKafka
from recsvc.live_state.note import read_note
from recsvc.local_files.folders import LIVE_STATE
from tests.recsvc.support.calls import Client
from tests.recsvc.support.followers import done, send, store_of, until_known
from tests.recsvc.support.models import publish, random_model
from tests.recsvc.support.programs import TIMEOUT_S, Program, run, started
from tests.support.polling import wait_for
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb

pytestmark = pytest.mark.process

PART = "live-state"


@pytest.fixture
def program(tmp_path: Path, own_kafka: MockKafka) -> Iterator[Program]:
    """A server of one worker, with Kafka."""
    publish(tmp_path / "store", random_model(1, version="1"))
    with started(tmp_path, KAFKA_BOOTSTRAP_SERVERS=own_kafka.bootstrap) as one:
        yield one


def state_of(client: Client, user_id: str) -> int:
    return client.recommendations.Recommend(pb.RecommendRequest(user_id=user_id), timeout=10).user_state


def test_a_killed_follower_harms_no_worker_and_is_started_again(
    tmp_path: Path, own_kafka: MockKafka, program: Program
) -> None:
    store = store_of(tmp_path)
    with Client.to(program.port()) as client:
        wait_for(lambda: client.status(PART) == "SERVING", what="following", timeout_s=60)
        for life in range(2):
            send(own_kafka.bootstrap, done(f"u-{life}", "v1"), key=f"u-{life}")
            until_known(store, f"u-{life}", "v1")
            assert state_of(client, f"u-{life}") == pb.USER_STATE_FOLDED_IN
            (pid,) = program.children("recsvc.follower")
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: program.events().count("follower.started") == life + 2, what="started again", timeout_s=60)  # noqa: B023  # asked now
            assert state_of(client, "u-0") == pb.USER_STATE_FOLDED_IN
            assert client.status() == "SERVING"
        send(own_kafka.bootstrap, done("last", "v1"), key="last")
        until_known(store, "last", "v1")
        wait_for(lambda: client.status(PART) == "SERVING", what="following again", timeout_s=60)
    assert "worker.died" not in program.events()
    assert "live_state.begins_anew" not in program.events(), "the workers' store is gone on with"
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(TIMEOUT_S) == 0
    events = program.events()
    assert events.index("server.stopped") < events.index("follower.left_clean"), "the follower ends last"
    note = read_note(tmp_path / "cache" / LIVE_STATE)
    assert note
    assert note.environment == store.current()


def test_health_tells_when_nothing_is_followed(own_kafka: MockKafka, program: Program) -> None:
    """Pages are served however it is: only the part changes."""
    assert own_kafka.child
    with Client.to(program.port()) as client:
        wait_for(lambda: client.status(PART) == "SERVING", what="following", timeout_s=60)
        own_kafka.child.suspend()
        wait_for(lambda: client.status(PART) == "NOT_SERVING", what="blind", timeout_s=60)
        assert client.status() == "SERVING"
        own_kafka.child.resume()
        wait_for(lambda: client.status(PART) == "SERVING", what="following again", timeout_s=60)

        (pid,) = program.children("recsvc.follower")
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_for(lambda: client.status(PART) == "NOT_SERVING", what="no status", timeout_s=60)
            assert client.status() == "SERVING"
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_for(lambda: client.status(PART) == "SERVING", what="following again", timeout_s=60)


def test_without_kafka_the_store_is_kept_and_health_says_so(tmp_path: Path) -> None:
    publish(tmp_path / "store", random_model(1, version="1"))
    with started(tmp_path, RECSVC_PROFILE_INTERACTIONS="7") as program, Client.to(program.port()) as client:
        wait_for(lambda: client.status(PART) == "SERVING", what="kept", timeout_s=60)
        told = client.recommendations.UpdateUserProfile(
            pb.UpdateUserProfileRequest(
                user_id="u", interactions=[pb.Interaction(video_id="v1", interaction_type=pb.INTERACTION_TYPE_LIKE)]
            ),
            timeout=20,
        )
        assert told.durable_on == pb.DURABLE_ON_MACHINE
        assert state_of(client, "u") == pb.USER_STATE_FOLDED_IN


def test_the_retired_bound_of_profiles_is_taken_with_a_warning(tmp_path: Path) -> None:
    done = run(tmp_path, RECSVC_PROFILE_INTERACTIONS="7", TLS_CERT_FILE=__file__)

    assert done.stderr.splitlines()[0] == (
        "warning: RECSVC_PROFILE_INTERACTIONS is ignored: profiles are on disk; RECSVC_LIVE_STATE_MIB bounds them"
    )
    assert done.returncode == 2
