"""Certificates and passwords are renewed under a bridge that runs on, and no page fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import psycopg
from grpc import aio
from structlog.testing import capture_logs

from bridge.domain.page import Page
from bridge.recsvc_client.channel import OPTIONS
from bridge.recsvc_client.client import RecsvcClient
from bridge.recsvc_client.replicas import ReplicaSet
from deploy.local.child_process import Child
from deploy.local.postgres import DATABASE, USER, Postgres
from deploy.probe import serves
from servicekit.credentials.client_identity import renewed_identity
from servicekit.credentials.tls_files import TlsFiles, server_credentials
from servicekit.process.ports import free_port
from servicekit.server.grpc_server import AioServer
from tests.bridge.support.fault_server import SERVICE, FaultServer
from tests.bridge.support.program import INTERACTIONS, Program
from tests.bridge.support.recsvc_client import ask, recsvc_client
from tests.bridge.support.waiting import until
from tests.support.certificates import Authority
from tests.support.grpc.grpcurl import Grpcurl
from tests.support.polling import wait_for
from videowindow.feed.v1 import feed_pb2 as pb
from videowindow.feed.v1.feed_pb2_grpc import FeedServiceStub
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as lightfm_pb


@asynccontextmanager
async def recsvc(identity: TlsFiles, *, port: int = 0) -> AsyncIterator[FaultServer]:
    """Run a recsvc that demands certificates."""
    server, faults = AioServer([SERVICE]), FaultServer()
    handler = grpc.unary_unary_rpc_method_handler(
        faults.recommend, lightfm_pb.RecommendRequest.FromString, lightfm_pb.RecommendResponse.SerializeToString
    )
    server.add_methods(SERVICE, {"Recommend": handler})
    address = f"127.0.0.1:{port}"
    faults.port = await server.start(address, server_credentials(address, identity))
    await server.set_serving(serving=True)
    try:
        yield faults
    finally:
        await server.drain(0)


def identities(folder: Path) -> tuple[TlsFiles, TlsFiles]:
    """Make, or replace, the files of recsvc and of the bridge, by an authority that nobody knew before."""
    authority = Authority(folder, "authority")
    return authority.issue("recsvc"), authority.issue("bridge")


async def test_pages_are_personal_again_after_certificates_are_renewed(tmp_path: Path, postgres_url: str) -> None:
    """Everything is replaced, the authority too, and recsvc is started anew; the bridge is not."""
    server, own = identities(tmp_path)
    port = free_port()
    program = Program(
        tmp_path,
        DATABASE_URL=postgres_url,
        LIGHTFM_GRPC_ENDPOINT=f"127.0.0.1:{port}",
        TLS_CERT_FILE=str(own.certificate),
        TLS_KEY_FILE=str(own.key),
        TLS_CA_FILE=str(own.authority),
    )
    async with recsvc(server, port=port):
        await asyncio.to_thread(start, program, own)
        async with aio.secure_channel(f"127.0.0.1:{program.port}", own.channel(), options=OPTIONS) as channel:
            feed = FeedServiceStub(channel)
            await personal(feed)
            server, _ = identities(tmp_path)
            await until(lambda: program.events("lightfm.renewed"), timeout_s=30)
            await until(lambda: program.events("tls.renewed"), timeout_s=30)
            await personal(feed)  # by the old recsvc still, as nothing refuses the old connection
    try:
        async with (
            recsvc(server, port=port),
            aio.secure_channel(f"127.0.0.1:{program.port}", own.channel(), options=OPTIONS) as channel,
        ):
            await personal(FeedServiceStub(channel))
        assert len(program.events("server.listening")) == 1
    finally:
        program.stop()


def start(program: Program, identity: TlsFiles) -> None:
    """As `Program.start`, for a bridge that demands certificates."""
    program.child = Child.start("bridge", program.command, log=program.log, cwd=program.folder, env=program.environment)
    program.child.wait_until(lambda: bool(program.events("server.listening")), timeout_s=60)
    program.port = program.events("server.listening")[0]["port"]
    wait_for(lambda: serves(f"127.0.0.1:{program.port}", identity), what="SERVING")


async def personal(feed: Any) -> None:
    """Ask until a page is personal; none fails on the way."""
    async with asyncio.timeout(60):
        while True:
            reply = await feed.GetRecommendations(pb.GetRecommendationsRequest(user_id="u1"), timeout=20)
            if reply.served_by == pb.SERVED_BY_LIGHTFM:
                return
            await asyncio.sleep(0.05)


async def test_no_page_fails_while_channels_change(tmp_path: Path) -> None:
    """Both ends are well, and pages are asked for all the time; also while a new identity does not work."""
    server, own = identities(tmp_path)
    good = renewed_identity(own).current
    stranger = renewed_identity(Authority(tmp_path, "stranger").issue("stranger")).current
    async with recsvc(server) as faults:
        client = recsvc_client()
        replica_set = ReplicaSet(client, faults.address, good, connections=2, sleep=lambda _: asyncio.sleep(0.01))
        assert await replica_set.warm_up(20)
        going_over = asyncio.create_task(replica_set.keep_renewed())
        pages = asyncio.create_task(keep_asking(client))
        try:
            before = replica_set.channels
            replica_set.renew(good)
            await until(lambda: not set(before) & set(replica_set.channels), timeout_s=30)
            kept = replica_set.channels
            with capture_logs() as logs:
                replica_set.renew(stranger)
                await until(lambda: {"lightfm.not_renewed"} & {log["event"] for log in logs}, timeout_s=60)
            assert replica_set.channels == kept
            replica_set.renew(good)
            await until(lambda: not set(kept) & set(replica_set.channels), timeout_s=30)
        finally:
            pages.cancel()
            going_over.cancel()
            ended = await asyncio.gather(pages, going_over, return_exceptions=True)
            await replica_set.close()
    assert [type(end) for end in ended] == [asyncio.CancelledError] * 2


async def keep_asking(client: RecsvcClient) -> None:
    while True:
        page = await ask(client, 20)
        assert isinstance(page, Page)
        assert page.attempts == 1
        assert len(page.videos) == 3


def test_a_new_database_password_needs_no_restart(tmp_path: Path, own_postgres: Postgres, grpcurl: Grpcurl) -> None:
    """Once every connection has to be made anew, interactions are taken with the new password."""
    url = own_postgres.url(DATABASE)
    secret = tmp_path / "database-url"
    secret.write_text(url)
    program = Program(tmp_path, DATABASE_URL_FILE=str(secret), LIGHTFM_GRPC_ENDPOINT=f"127.0.0.1:{free_port()}")
    address = program.start()
    event = {"userId": "u1", "videoId": "v1", "interactionType": "INTERACTION_TYPE_LIKE"}

    def recorded() -> bool:
        reply = grpcurl(address, f"{INTERACTIONS}/RecordInteraction", {"interaction": event})
        return reply.code is grpc.StatusCode.OK

    try:
        wait_for(recorded)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"ALTER ROLE {USER} PASSWORD 'renewed'")
            secret.write_text(f"postgresql://{USER}:renewed@127.0.0.1:{own_postgres.port}/{DATABASE}")
            wait_for(lambda: program.events("renewal.taken"))
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'bridge'"
            )
        wait_for(recorded)
        assert "renewed@" not in program.log.read_text()
    finally:
        program.stop()
