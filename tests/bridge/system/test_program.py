"""The program as people run it: a process, its environment, its peers and its signals."""

import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import psycopg
import pytest
from google.protobuf.json_format import MessageToDict
from grpc import aio

from bridge.kafka.message import INTERACTIONS_TOPIC
from bridge.postgres.migrate import migrate
from deploy.local.child_process import Child
from deploy.local.postgres import Postgres
from servicekit.process.ports import free_port
from tests.bridge.support.fault_server import CATALOGUE
from tests.bridge.support.program import FEED, INTERACTIONS, ROOT, Program
from tests.bridge.support.topic import read_topic
from tests.support.grpc.grpcurl import Grpcurl
from tests.support.polling import wait_for
from videowindow.feed.v1 import feed_pb2 as pb
from videowindow.feed.v1.feed_pb2_grpc import FeedServiceStub

SLACK_S = 1.0
"""What a busy machine may add to a promise in milliseconds."""


class Recsvc:
    """A fault server process on a port that it keeps over restarts."""

    def __init__(self) -> None:
        self.port = free_port()
        self.child: Child
        self.start()

    def start(self) -> None:
        """Start it, and return once it listens."""
        command = [sys.executable, "-m", "tests.bridge.support.fault_server", str(self.port)]
        self.child = Child.start("recsvc", command, log=None, cwd=ROOT)
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            grpc.channel_ready_future(channel).result(20)


@pytest.fixture
def recsvc() -> Iterator[Recsvc]:
    server = Recsvc()
    yield server
    server.child.kill()


@pytest.fixture(scope="module")
def database(postgres_url: str) -> str:
    """A database with thirty trending videos, t00 first."""
    migrate(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        connection.execute(
            "INSERT INTO user_interactions (user_id, video_id, interaction_type, occurred_at)"
            " SELECT 'u' || u, 't' || lpad(v::text, 2, '0'), 'like', now()"
            " FROM generate_series(0, 29) AS v, generate_series(1, 30 - v) AS u"
        )
    return postgres_url


@pytest.fixture
def program(tmp_path: Path, database: str, kafka_bootstrap: str, recsvc: Recsvc) -> Iterator[Program]:
    program = Program(
        tmp_path,
        DATABASE_URL=database,
        KAFKA_BOOTSTRAP_SERVERS=kafka_bootstrap,
        LIGHTFM_GRPC_ENDPOINT=f"127.0.0.1:{recsvc.port}",
    )
    program.start()
    yield program
    if program.child and program.child.running:
        program.child.kill()


@pytest.fixture
async def feed(program: Program) -> AsyncIterator[Any]:
    async with aio.insecure_channel(f"127.0.0.1:{program.port}") as channel:
        await channel.channel_ready()
        yield FeedServiceStub(channel)


async def _page(feed: Any, **fields: Any) -> tuple[pb.GetRecommendationsResponse, float]:
    """Return a page and the seconds it took."""
    started = time.monotonic()
    reply = await feed.GetRecommendations(pb.GetRecommendationsRequest(user_id="u1", **fields), timeout=5)
    return reply, time.monotonic() - started


async def _until_personal(feed: Any) -> None:
    """Every page on the way is a full one, in time."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        reply, took = await _page(feed)
        assert len(reply.videos) == 20
        assert took < 0.16 + SLACK_S
        if reply.served_by == pb.SERVED_BY_LIGHTFM:
            return
    raise AssertionError("the feed did not become personal again")


async def test_hung_recsvc(program: Program, feed: Any, recsvc: Recsvc) -> None:
    """SIGSTOP: full trending pages in time, at once after five. SIGCONT: personal again after the probe."""
    wait_for(lambda: program.events("trending.ranked"))
    reply, _ = await _page(feed)
    assert [video.video_id for video in reply.videos] == list(CATALOGUE[:20])
    recsvc.child.suspend()
    pages = [await _page(feed) for _ in range(12)]
    assert [len(reply.videos) for reply, _ in pages] == [20] * 12
    assert {reply.served_by for reply, _ in pages} == {pb.SERVED_BY_TRENDING}
    reasons = [reply.fallback_reason for reply, _ in pages]
    hung, skipped = pb.FALLBACK_REASON_DEADLINE_EXCEEDED, pb.FALLBACK_REASON_CIRCUIT_OPEN
    assert reasons == [hung] * 5 + [skipped] * 7
    assert max(took for _, took in pages) < 0.16 + SLACK_S
    recsvc.child.resume()
    await _until_personal(feed)
    # The page may arrive before the line does.
    wait_for(lambda: ("half_open", "closed") in _breaker_changes(program))
    changes = _breaker_changes(program)
    assert changes[0] == ("closed", "open")
    assert changes[-1] == ("half_open", "closed")


def _breaker_changes(program: Program) -> list[tuple[str, str]]:
    return [(event["before"], event["after"]) for event in program.events("breaker.changed")]


async def test_killed_recsvc(program: Program, feed: Any, recsvc: Recsvc) -> None:
    wait_for(lambda: program.events("trending.ranked"))
    await _page(feed)
    recsvc.child.kill()
    pages = [await _page(feed) for _ in range(12)]
    assert [len(reply.videos) for reply, _ in pages] == [20] * 12
    assert {reply.served_by for reply, _ in pages} == {pb.SERVED_BY_TRENDING}
    assert max(took for _, took in pages) < 0.16 + SLACK_S
    recsvc.start()
    await _until_personal(feed)


def test_by_grpcurl(program: Program, grpcurl: Grpcurl, kafka_bootstrap: str) -> None:
    """What a newcomer types: list the services, get a page, record what was done with it."""
    address = f"127.0.0.1:{program.port}"
    services = grpcurl.services(address)
    assert {FEED, INTERACTIONS, "videowindow.feed.v1.PlaybackService", "grpc.health.v1.Health"} <= set(services)
    page = grpcurl(address, f"{FEED}/GetRecommendations", {"userId": "u1", "pageSize": 2}).message
    assert page["served_by"] == "SERVED_BY_LIGHTFM"
    assert grpcurl(address, f"{FEED}/GetRecommendations", {"pageSize": -1}).bad_fields == ["user_id", "page_size"]
    user, event_id = f"user-{uuid4()}", str(uuid4())
    context = {"feedSessionId": page["feed_session_id"], "algorithm": page["algorithm"]}
    event = {"eventId": event_id, "userId": user, "videoId": page["videos"][0]["video_id"],
             "interactionType": "INTERACTION_TYPE_WATCH", "watchTime": "1500", "recommendation": context}  # fmt: skip
    reply = grpcurl(address, f"{INTERACTIONS}/RecordInteraction", {"interaction": event}).message
    assert reply == {"event_id": event_id, "status": "ACKNOWLEDGEMENT_STATUS_ACCEPTED"}
    records = wait_for(lambda: read_topic(kafka_bootstrap, INTERACTIONS_TOPIC, {user}))
    assert records[0].headers == {"event-id": event_id, "algorithm": "lightfm-warp",
                                  "feed-session-id": page["feed_session_id"]}  # fmt: skip
    refused = grpcurl(address, f"{INTERACTIONS}/RecordInteraction", {"interaction": {**event, "interactionType": 99}})
    assert refused.bad_fields == ["interaction.interaction_type"]
    playback = grpcurl(address, "videowindow.feed.v1.PlaybackService/EndSession")
    assert playback.bad_fields == ["session_id"]


async def test_clean_shutdown(program: Program, feed: Any, recsvc: Recsvc) -> None:
    """SIGTERM: a call under way gets its page, nothing is left unsent, and the exit status is 0."""
    wait_for(lambda: program.events("trending.ranked"))
    recsvc.child.suspend()
    call = feed.GetRecommendations(pb.GetRecommendationsRequest(user_id="u1"), timeout=5)
    await feed.GetTrending(pb.GetTrendingRequest())  # answered, so the call before it has arrived
    assert program.child is not None
    program.child.process.terminate()
    reply = await call
    assert len(reply.videos) == 20, MessageToDict(reply)
    assert program.child.process.wait(20) == 0
    assert [event["event"] for event in program.events("server.stopped")] == ["server.stopped"]
    assert not program.events("kafka.left_in_outbox")
    assert "Traceback" not in program.log.read_text()


def test_cold_start_without_postgres(tmp_path: Path, own_postgres: Postgres, grpcurl: Grpcurl) -> None:
    """Down at the start: trending from disk, interactions refused for now, and all is well once it is back."""
    program = Program(
        tmp_path,
        DATABASE_URL=own_postgres.url("videowindow"),
        LIGHTFM_GRPC_ENDPOINT=f"127.0.0.1:{free_port()}",
        TRENDING_INTERVAL_S="0.2",
    )
    address = program.start()
    event = {"userId": "u1", "videoId": "v1", "interactionType": "INTERACTION_TYPE_LIKE"}
    record = {"interaction": event}
    grpcurl(address, f"{INTERACTIONS}/RecordInteraction", record).message  # noqa: B018  # asserts success
    snapshot = tmp_path / ".run" / "trending.json"
    wait_for(lambda: snapshot.exists() and "v1" in snapshot.read_text())
    assert program.stop() == 0
    assert own_postgres.child is not None
    own_postgres.child.kill()
    address = program.start()
    page = grpcurl(address, f"{FEED}/GetRecommendations", {"userId": "u2"}).message
    assert [video["video_id"] for video in page["videos"]] == ["v1"]
    assert page["served_by"] == "SERVED_BY_TRENDING"
    refused = grpcurl(address, f"{INTERACTIONS}/RecordInteraction", record)
    assert refused.code is grpc.StatusCode.UNAVAILABLE
    assert refused.detail("RetryInfo")
    own_postgres.start()
    wait_for(
        lambda: grpcurl(address, f"{INTERACTIONS}/RecordInteraction", record).code is grpc.StatusCode.OK, timeout_s=20
    )
    assert program.stop() == 0
    unreachable = program.events("postgres.unreachable")
    assert len(unreachable) == 1, "one line a change"


def test_help_names_every_variable(tmp_path: Path) -> None:
    done = Program(tmp_path).run("--help")
    assert done.returncode == 0
    for name in ("BRIDGE_LISTEN", "LIGHTFM_GRPC_ENDPOINT", "DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS", "TLS_KEY_FILE"):
        assert name in done.stdout


WRONG = [
    ({}, "DATABASE_URL"),
    ({"DATABASE_URL": "mysql://u:secret@h/d"}, "DATABASE_URL"),
    ({"LIGHTFM_BUDGET_MS": "soon"}, "LIGHTFM_BUDGET_MS"),
    ({"LIGHTFM_GRPC_ENDPOINT": "recsvc.internal:50051"}, "TLS_CERT_FILE"),
    ({"BRIDGE_LISTEN": "0.0.0.0:0"}, "TLS_CERT_FILE"),
    ({"TLS_CERT_FILE": __file__}, "TLS_CERT_FILE"),
    ({"TLS_CERT_FILE": __file__, "TLS_KEY_FILE": "b.pem", "TLS_CA_FILE": __file__}, "TLS_KEY_FILE: there is no b.pem"),
    ({"BRIDGE_LISTN": "127.0.0.1:0"}, "did you mean BRIDGE_LISTEN?"),
    ({"BRIDGE_LISTEN": "127.0.0.1:66000"}, "BRIDGE_LISTEN"),
    ({"TRENDING_HALF_LIFE_H": "0.1"}, "TRENDING_HALF_LIFE_H"),
    ({"TRENDING_HALF_LIFE_H": "1", "TRENDING_WINDOW_H": "8784"}, "TRENDING_WINDOW_H is more than"),
    ({"BREAKER_OPEN_S": "nan"}, "BREAKER_OPEN_S"),
    ({"SEGMENT_URL": "api.segment.io"}, "SEGMENT_URL"),
    ({"POSITION_SYNC_ENDPOINT": "sync"}, "POSITION_SYNC_ENDPOINT"),
    ({"EXPERIMENT_PATH": "/nowhere/experiment.json"}, "EXPERIMENT_PATH: there is no"),
]


@pytest.mark.parametrize(("environment", "named"), WRONG)
def test_wrong_settings_end_with_one_line(tmp_path: Path, environment: dict[str, str], named: str) -> None:
    complete = environment if not environment else {"DATABASE_URL": "postgresql://127.0.0.1:1/d", **environment}
    done = Program(tmp_path, **complete).run()
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert named in lines[0]
    assert "secret" not in done.stderr


def test_taken_port_ends_with_one_line(tmp_path: Path, program: Program) -> None:
    other = Program(tmp_path, DATABASE_URL="postgresql://127.0.0.1:1/d", BRIDGE_LISTEN=f"127.0.0.1:{program.port}")
    done = other.run()
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")


def test_migrate_command(tmp_path: Path, postgres_server: Postgres) -> None:
    url = postgres_server.create_database(f"test_{uuid4().hex}")
    done = Program(tmp_path, DATABASE_URL=url).run("migrate")
    assert (done.returncode, done.stdout) == (0, "Database schema: up to date\n")
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM user_interactions").fetchone() == (0,)
    done = Program(tmp_path, DATABASE_URL="postgresql://u:secret@127.0.0.1:1/d").run("migrate")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "secret" not in line
