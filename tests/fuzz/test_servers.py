"""Whatever anybody sends, both servers stay up, answer as documented, and all that reads what they stored still runs.

`FUZZ_CALLS` makes it longer and `FUZZ_SEED` another one: FUZZ_CALLS=200000 pytest tests/fuzz
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import grpc
import psycopg
import pytest
from grpc import aio
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from deploy.local.data_folder import DataSet
from deploy.local.kafka.choice import choose_kafka
from deploy.local.postgres import Postgres
from deploy.local.program import ROOT, Service, local_environment
from servicekit.configuration.arguments import whole
from tests.fuzz.support.fuzzer import Findings, Fuzzer
from tests.fuzz.support.methods import all_methods
from tests.support.grpc.grpcurl import Grpcurl
from tests.support.polling import wait_for
from tests.support.system import System, running

CALLS: Final = whole(100, 10**9)(os.environ.get("FUZZ_CALLS", "3000"))
SEED: Final = whole(0, 2**32 - 1)(os.environ.get("FUZZ_SEED", "1"))
BOMB: Final = bytes(32 << 20)
BOMBS: Final = 4
MAX_GROWTH_BYTES: Final = 400 << 20
PAGE: Final = 20
TRENDING: Final = "videowindow.feed.v1.FeedService/GetTrending"

pytestmark = pytest.mark.timeout(300 + CALLS // 20)


@pytest.fixture(scope="module")
def system(postgres_server: Postgres, grpcurl: Grpcurl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Both servers over a small model, with a database and a Kafka that nobody else looks at."""
    folder = tmp_path_factory.mktemp("fuzz")
    data = DataSet(folder / "data")
    sizes = ("--users", "150", "--videos", "300", "--days", "3")
    _program("retrain", "simulate", "--output", str(data.folder), *sizes, env=dict(os.environ))
    env = (
        local_environment(os.environ)
        | _training(folder)
        | {
            "INTERACTIONS_URL": data.url("exports"),
            "CATALOGUE_URL": data.url(),
            "MODEL_STORE_URL": (folder / "models").as_uri(),
        }
    )
    _program("retrain", "run", "--force", env=env)  # so little data may not pass the gate
    kafka = choose_kafka().over(folder / "kafka")
    try:
        yield from _started(folder, data, postgres_server, kafka.start(), grpcurl)
    finally:
        kafka.stop()


def _training(folder: Path) -> dict[str, str]:
    return {"RETRAIN_FACTORS": "8", "RETRAIN_EPOCHS": "3", "RETRAIN_WORK_DIR": str(folder / "work")}


def _started(folder: Path, data: DataSet, postgres: Postgres, bootstrap: str, grpcurl: Grpcurl) -> Iterator[System]:
    settings = _training(folder) | {
        "LOG_LEVEL": "info",
        "TRENDING_INTERVAL_S": "0.5",
        "FEATURES_INTERVAL_S": "1",
        "RECSVC_FRESHNESS_INTERVAL_S": "0.5",
        "BREAKER_OPEN_S": "0.1",
    }
    database = postgres.create_database(f"fuzz_{uuid4().hex}")
    with running(folder, data, database, bootstrap, grpcurl, **settings) as system:
        yield system


@pytest.fixture(scope="module")
def fuzzed(system: System) -> Findings:
    """What came of all calls, which are over."""
    known = {"user_id": system.users(40), "video_id": _videos(system)[:100], "video_ids": _videos(system)[:100]}
    fuzzer = Fuzzer(SEED, known)
    before = [_memory(service) for service in (system.recsvc, system.bridge)]
    findings = asyncio.run(_fuzz(system, fuzzer))
    for service, had in zip((system.recsvc, system.bridge), before, strict=True):
        grown = _memory(service) - had
        if grown > MAX_GROWTH_BYTES:
            findings.problems.append(f"{service.name} has grown by {grown >> 20} MiB")
    return findings


async def _fuzz(system: System, fuzzer: Fuzzer) -> Findings:
    async with (
        aio.insecure_channel(system.recsvc.address) as recsvc,
        aio.insecure_channel(system.bridge.address) as bridge,
    ):
        served = dict.fromkeys(_services(system.recsvc), recsvc)
        served |= dict.fromkeys(_services(system.bridge), bridge)
        return await fuzzer.run([(method, served[method.service]) for method in all_methods()], CALLS)


def test_every_service_is_served_by_one_of_the_two(system: System) -> None:
    served = _services(system.recsvc) + _services(system.bridge)
    assert {method.service for method in all_methods()} <= {*served}


def test_every_answer_is_a_documented_one(fuzzed: Findings) -> None:
    found = sorted(set(fuzzed.problems))
    assert not found, f"{len(found)} of seed {SEED}:\n" + "\n".join(found[:25])


def test_the_calls_reach_behind_the_checks(fuzzed: Findings) -> None:
    """A method that refuses all that it is sent is not tested."""
    for method in all_methods():
        assert fuzzed.of(method, "OK"), method.path
        assert fuzzed.of(method, "OK") < sum(count for (path, _), count in fuzzed.codes.items() if path == method.path)


@pytest.mark.parametrize("count", [0, 2, 1_000])
def test_a_method_of_one_request_ends_calls_with_none_or_several(system: System, count: int) -> None:
    """Whatever they end with is gRPC's to say; they end, and the servers stay."""
    for method in all_methods():
        server = system.bridge if ".feed." in method.service else system.recsvc
        if method.takes_many:
            continue
        with grpc.insecure_channel(server.address) as channel:
            kind = channel.stream_stream if method.gives_many else channel.stream_unary
            call: Any = kind(method.path)
            with suppress(grpc.RpcError):
                replies = call(iter([b""] * count), timeout=1 if count == 0 else 60)
                _ = list(replies) if method.gives_many else replies


def test_a_bomb_is_refused_and_leaves_nothing(system: System) -> None:
    """A request of some kilobytes that is large once unpacked."""
    for server in (system.recsvc, system.bridge):
        before, method = _memory(server), next(one for one in all_methods() if one.service in _services(server))
        options = [("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(server.address, options, grpc.Compression.Gzip) as channel:
            call: Any = channel.unary_unary(method.path)
            for refused in [call.future(BOMB, timeout=60) for _ in range(BOMBS)]:
                assert refused.exception().code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        wait_for(partial(_is_below, server, before + 2 * len(BOMB)), what="memory given back")


@pytest.mark.usefixtures("fuzzed")
def test_both_servers_run_and_have_logged_no_defect(system: System) -> None:
    for service in (system.recsvc, system.bridge):
        assert service.child
        assert service.child.process.poll() is None
        text = service.log.read_text(encoding="utf-8")
        assert "Traceback" not in text, text[text.index("Traceback") - 500 :][:3000]
        assert not [line for line in text.splitlines() if '"level": "error"' in line]


@pytest.mark.usefixtures("fuzzed")
def test_trending_is_ranked_anew_and_full(system: System) -> None:
    end = datetime.now(UTC)

    def page() -> "dict[str, Any] | None":
        found: dict[str, Any] = system.grpcurl(system.bridge.address, TRENDING, {"page_size": PAGE}).message
        return found if datetime.fromisoformat(found["computed_at"]) > end else None

    assert len((wait_for(page, interval_s=0.2, what="a new ranking") or {}).get("videos", [])) == PAGE


@pytest.mark.usefixtures("fuzzed")
def test_features_are_published(system: System) -> None:
    def published() -> int:
        return system.bridge.log.read_text(encoding="utf-8").count('"features.published"')

    before = published()
    wait_for(lambda: published() > before, what="features.published")


@pytest.mark.usefixtures("fuzzed")
def test_pages_are_full(system: System) -> None:
    _look_at_pages(system)


@pytest.mark.usefixtures("fuzzed")
def test_pages_are_full_after_a_restart_on_what_was_kept(system: System) -> None:
    for service in (system.recsvc, system.bridge):
        service.stop()
        service.start()
    _look_at_pages(system)


@pytest.mark.usefixtures("fuzzed")
def test_what_was_stored_is_exported_and_trained_on(system: System, tmp_path: Path) -> None:
    exports, today = tmp_path / "exports", datetime.now(UTC).date()
    env = system.env | {
        "INTERACTIONS_URL": exports.as_uri(),
        "MODEL_STORE_URL": (tmp_path / "models").as_uri(),
        "RETRAIN_WORK_DIR": str(tmp_path / "work"),
    }
    stored = _stored(env["DATABASE_URL"])
    assert sum(stored.values()) > CALLS / 100, "the calls have stored hardly anything"
    for day in [day for day in stored if day < today]:
        _program("retrain", "export", "--date", f"{day}", env=env)
    _program("retrain", "run", "--force", env=env)
    _program("retrain", "report", "--output", str(tmp_path / "report.html"), env=env)
    assert "<html" in (tmp_path / "report.html").read_text(encoding="utf-8")
    _program("bridge", "dead-letters", env=env)


def _look_at_pages(system: System) -> None:
    for user in (*system.users(5), "nobody-knows-me"):

        def personal(user: str = user) -> bool:
            page = system.feed(user_id=user, page_size=PAGE).message
            return page.get("served_by") == "SERVED_BY_LIGHTFM" and len(page["videos"]) == PAGE

        wait_for(personal, interval_s=0.2, what=f"a full personal page of {user}")
        assert len(system.recommend(user_id=user, page_size=PAGE).message["videos"]) == PAGE


def _stored(database: str) -> dict[date, int]:
    """Return how many interactions of each day the calls have stored."""
    query = """
    SELECT (occurred_at AT TIME ZONE 'UTC')::date, count(*) FROM user_interactions
    WHERE recorded_at > now() - interval '1 hour' GROUP BY 1 ORDER BY 1
    """
    with psycopg.connect(database) as connection:
        return dict(connection.execute(query).fetchall())


def _videos(system: System) -> list[str]:
    page = system.recommend(user_id=system.users(1)[0], page_size=200, include_seen=True).message
    return [video["video_id"] for video in page["videos"]]


def _services(service: Service) -> list[str]:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    with grpc.insecure_channel(service.address) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        (reply,) = stub.ServerReflectionInfo(iter([request]), timeout=30)
    return [one.name for one in reply.list_services_response.service]


def _is_below(service: Service, bound: int) -> bool:
    return _memory(service) < bound


def _memory(service: Service) -> int:
    assert service.child
    status = Path(f"/proc/{service.child.process.pid}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmRSS"))


def _program(*arguments: str, env: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{arguments}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
