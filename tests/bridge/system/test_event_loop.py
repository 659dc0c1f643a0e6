"""Nothing holds up the event loop of the bridge: neither a file, nor a name, nor whoever reads its log."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from grpc import aio

from servicekit.process.ports import free_port
from tests.bridge.support.events import event
from tests.bridge.support.fault_server import running_fault_server
from tests.bridge.support.program import ROOT, Program
from tests.support.dns import NameServer
from tests.support.dogstatsd import DogStatsdServer
from tests.support.polling import wait_for
from tests.support.segment import SegmentServer
from videowindow.feed.v1 import feed_pb2, interaction_pb2, playback_pb2
from videowindow.feed.v1.feed_pb2_grpc import FeedServiceStub
from videowindow.feed.v1.interaction_pb2_grpc import InteractionServiceStub
from videowindow.feed.v1.playback_pb2_grpc import PlaybackServiceStub


async def use_everything(address: str) -> None:
    """Make each call of each service, and some that are refused."""
    user = f"user-{uuid4()}"
    async with aio.insecure_channel(address) as channel:
        feed: Any = FeedServiceStub(channel)
        interactions: Any = InteractionServiceStub(channel)
        playback: Any = PlaybackServiceStub(channel)
        page = await feed.GetRecommendations(feed_pb2.GetRecommendationsRequest(user_id=user), timeout=20)
        await feed.GetRecommendations(
            feed_pb2.GetRecommendationsRequest(user_id=user, page_token=page.next_page_token), timeout=20
        )
        await feed.GetTrending(feed_pb2.GetTrendingRequest(), timeout=20)
        await interactions.RecordInteraction(
            interaction_pb2.RecordInteractionRequest(interaction=event(user)), timeout=20
        )

        async def several() -> AsyncIterator[interaction_pb2.StreamInteractionsRequest]:
            for _ in range(50):
                yield interaction_pb2.StreamInteractionsRequest(interaction=event(user))

        assert len([reply async for reply in interactions.StreamInteractions(several(), timeout=20)]) == 50
        session = playback_pb2.CreateSessionRequest(
            session_id=str(uuid4()), user_id=user, video_id="v", duration_ms=1000
        )
        await playback.CreateSession(session, timeout=20)
        position = playback_pb2.UpdatePositionRequest(session_id=session.session_id, position_ms=500)
        await playback.UpdatePosition(position, timeout=20)
        await playback.EndSession(playback_pb2.EndSessionRequest(session_id=session.session_id), timeout=20)
        for refused in (
            feed.GetRecommendations(feed_pb2.GetRecommendationsRequest(page_size=-1), timeout=20),
            interactions.RecordFeedback(interaction_pb2.RecordFeedbackRequest(), timeout=20),
        ):
            assert isinstance((await asyncio.gather(refused, return_exceptions=True))[0], aio.AioRpcError)


async def test_no_file_and_no_name_is_waited_for(
    tmp_path: Path, postgres_url: str, kafka_bootstrap: str, dogstatsd: DogStatsdServer
) -> None:
    """With everything on, and while the ranking is kept, names are followed and a password is renewed."""
    findings, secret = tmp_path / "findings", tmp_path / "database-url"
    secret.write_text(postgres_url)
    with SegmentServer() as segment:
        async with running_fault_server() as faults:
            program = Program(
                tmp_path,
                DATABASE_URL_FILE=str(secret),
                KAFKA_BOOTSTRAP_SERVERS=kafka_bootstrap,
                LIGHTFM_GRPC_ENDPOINT=f"dns:///localhost:{faults.port}",
                POSITION_SYNC_ENDPOINT=f"127.0.0.1:{free_port()}",
                TRENDING_INTERVAL_S="0.2",
                FEATURES_INTERVAL_S="0.2",
                SEGMENT_WRITE_KEY="key",
                SEGMENT_URL=segment.url,
                DD_AGENT_HOST=dogstatsd.host,
                DD_DOGSTATSD_PORT=str(dogstatsd.port),
                LOG_LEVEL="debug",
                WATCHED=str(findings),
            )
            program.command = [sys.executable, "-m", "tests.bridge.support.watched_bridge"]
            address = await asyncio.to_thread(program.start)
            for _ in range(3):
                await use_everything(address)
            secret.write_text(f"{postgres_url}?keepalives=1")
            for name in ("renewal.taken", "features.published"):
                await asyncio.to_thread(wait_for, lambda name=name: program.events(name))
            faults.play()  # what is refused takes ways of its own
            await use_everything(address)
            assert await asyncio.to_thread(program.stop) == 0
    found = json.loads(findings.read_text(encoding="utf-8"))
    assert not found, json.dumps(found[:3], indent=2)


async def test_pages_come_while_the_lookup_of_the_agent_hangs(
    tmp_path: Path, postgres_url: str, dogstatsd: DogStatsdServer
) -> None:
    """All of them: none waits until the name is known. Then metrics of all of them arrive."""
    with NameServer(tmp_path) as names:
        async with running_fault_server() as faults:
            program = Program(
                tmp_path,
                DATABASE_URL=postgres_url,
                LIGHTFM_GRPC_ENDPOINT=faults.address,
                DD_AGENT_HOST="agent.example",
                DD_DOGSTATSD_PORT=str(dogstatsd.port),
            )
            program.command = names.command([sys.executable, "-m", "bridge"])
            address = await asyncio.to_thread(program.start)
            async with aio.insecure_channel(address) as channel:
                feed: Any = FeedServiceStub(channel)
                for _ in range(500):
                    reply = await feed.GetRecommendations(feed_pb2.GetRecommendationsRequest(user_id="u"), timeout=20)
                    assert len(reply.videos) == 20
            assert names.asked
            assert not dogstatsd.lines
            names.answer()

            def pages() -> bool:
                return len(dogstatsd.packets("feed.recommendation.latency")) == 500

            await asyncio.to_thread(wait_for, pages, timeout_s=60)
            assert await asyncio.to_thread(program.stop) == 0


async def test_pages_come_while_nobody_reads_the_log(tmp_path: Path, postgres_url: str) -> None:
    """Each page is logged, to a pipe that is full after the first ones."""
    async with running_fault_server() as faults:
        address = f"127.0.0.1:{free_port()}"
        program = Program(
            tmp_path,
            DATABASE_URL=postgres_url,
            LIGHTFM_GRPC_ENDPOINT=faults.address,
            BRIDGE_LISTEN=address,
            LOG_LEVEL="debug",
        )
        process = await asyncio.create_subprocess_exec(
            *program.command, cwd=tmp_path, env=program.environment, stderr=subprocess.PIPE, limit=4096
        )
        async with aio.insecure_channel(address) as channel:
            feed: Any = FeedServiceStub(channel)
            for _ in range(1500):
                request = feed_pb2.GetRecommendationsRequest(user_id="u")
                reply = await feed.GetRecommendations(request, timeout=60, wait_for_ready=True)
                assert len(reply.videos) == 20
        process.terminate()
        _, log = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    assert log.count(b'"page.served"') == 1500, "there was room for these while they waited"


BLOCKED: Final = """
import asyncio, os, pathlib
from tests.bridge.support.watched_bridge import watch
found = []
watch(found)
pathlib.Path("pyproject.toml").read_text()

async def main():
    os.listdir(".")
    await asyncio.to_thread(pathlib.Path("pyproject.toml").read_text)
    pathlib.Path("pyproject.toml").read_text()

asyncio.run(main())
print([one["event"] for one in found])
"""


def test_the_watch_sees_what_blocks_and_nothing_else() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKED], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "['os.listdir', 'open']\n"
