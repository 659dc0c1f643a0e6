"""The client of recsvc: one page of personal recommendations over gRPC."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from grpc import aio

from bridge.domain.deadline import Clock
from bridge.domain.page import EVERYTHING, PageQuery, RankedVideo, VideoFilter
from bridge.recsvc_client.load_balancer import Balancer, Replica
from bridge.recsvc_client.status_codes import classify
from servicekit.credentials.tls_files import ClientTls, InsecureListenError, is_loopback
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb
from videowindow.lightfm.v2025_9.lightfm_recommendation_pb2_grpc import RecommendationServiceStub

API_VERSION: Final = (("x-lightfm-api-version", "2025.9"),)

OPTIONS: Final = (
    # No service configuration: grpcio ends calls at once when one names a timeout below two seconds, and retries inside
    # of the channel would be invisible to the breaker.
    ("grpc.service_config_disable_resolution", 1),
    # A server that vanished without a word is noticed; recsvc allows pings every 20 s.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A server that is back is found at once, before the next one is restarted; the default waits up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 250),
    # Channels to one address have connections of their own, each perhaps to another process behind it.
    ("grpc.use_local_subchannel_pool", 1),
    # An idle channel would make the next user wait for a connection.
    ("grpc.client_idle_timeout_ms", 2**31 - 1),
)


@dataclass(frozen=True, slots=True)
class LightFmPage:
    """What LightFM ranked.

    Attributes:
        videos: Best first.
        more: Whether it has more for this user.
        algorithm: What ranked, such as "lightfm-warp".
        model_version: The model that ranked.
    """

    videos: list[RankedVideo]
    more: bool
    algorithm: str
    model_version: str


def open_channel(endpoint: str, tls: ClientTls | None, *, host: str = "") -> aio.Channel:
    """Return a channel to recsvc; InsecureListenError for plain text to another machine.

    Args:
        endpoint: A gRPC target, such as `host:port`, `dns:///host:port` or `ipv4:10.0.0.1:50051,10.0.0.2:50051`.
        tls: This program's identity; None for plain text.
        host: The name that the server's certificate must bear, where the endpoint is only its address.
    """
    if tls is not None:
        named = [("grpc.ssl_target_name_override", host)] if host else []
        return aio.secure_channel(endpoint, tls.channel(), options=[*OPTIONS, *named])
    if not all(map(is_loopback, _addresses(endpoint))):
        raise InsecureListenError(f"{endpoint} is on another machine: set TLS_CERT_FILE, TLS_KEY_FILE and TLS_CA_FILE")
    return aio.insecure_channel(endpoint, options=OPTIONS)


def _addresses(endpoint: str) -> list[str]:
    for scheme in ("dns:///", "dns:", "ipv4:", "ipv6:"):
        if endpoint.startswith(scheme):
            return endpoint.removeprefix(scheme).split(",")
    return [endpoint]


async def warm_up(channel: aio.Channel, timeout_s: float) -> bool:
    """Connect before the first user comes; return whether recsvc was there in time."""
    connected = asyncio.create_task(channel.channel_ready())
    done, _ = await asyncio.wait([connected], timeout=timeout_s)
    connected.cancel()
    return bool(done)


Recommend: TypeAlias = "aio.UnaryUnaryMultiCallable[pb.RecommendRequest, pb.RecommendResponse]"


class LightFm:
    """Asks recsvc for pages.

    Args:
        channels: One for each replica, at least one.
        clock: Monotonic seconds.
    """

    def __init__(self, *channels: aio.Channel, clock: Clock = time.monotonic) -> None:
        self._stubs: dict[aio.Channel, Recommend] = {}
        self._balancer: Balancer[Recommend] = Balancer((), clock)
        self.use(channels)

    @property
    def replicas(self) -> int:
        """How many replicas there are."""
        return len(self._balancer)

    def use(self, channels: Iterable[aio.Channel]) -> None:
        """Call the replicas behind these channels from now on."""
        self._stubs = {
            channel: self._stubs.get(channel) or RecommendationServiceStub(channel).Recommend for channel in channels
        }
        self._balancer.replace(self._stubs.values())

    def attempts(self, request: pb.RecommendRequest) -> Callable[[float], Awaitable[LightFmPage]]:
        """Return what makes one attempt within a timeout in seconds, each at another replica if there is any."""
        tried: list[Replica[Recommend]] = []

        async def attempt(timeout_s: float) -> LightFmPage:
            replica = self._balancer.begin(tried)
            tried.append(replica)
            failed = False
            try:
                reply = await replica.peer(request, timeout=timeout_s, metadata=API_VERSION)
            except aio.AioRpcError as error:
                failed = classify(error).avoid
                raise
            finally:
                self._balancer.end(replica, failed=failed)
            return _page(reply)

        return attempt

    async def page(self, request: pb.RecommendRequest, timeout_s: float) -> LightFmPage:
        """Return one page; grpc.aio.AioRpcError when there is none within the timeout."""
        return await self.attempts(request)(timeout_s)


_RANKED: Final = partial(tuple.__new__, RankedVideo)
"""Makes a RankedVideo of a pair in a third of its own constructor's time."""


def _page(reply: pb.RecommendResponse) -> LightFmPage:
    videos = [*map(_RANKED, [(video.video_id, video.score) for video in reply.videos])]
    return LightFmPage(videos, bool(reply.next_page_token), reply.algorithm, reply.model_version)


def encode_query(query: PageQuery) -> pb.RecommendRequest:
    """Return the request for a page: without a page token of recsvc's, as the query names what was served."""
    request = pb.RecommendRequest(
        user_id=query.user_id,
        page_size=query.page_size,
        surface=query.surface,
        exclude_video_ids=query.served,
        diversity=query.diversity,
        request_id=query.request_id,
    )
    if query.seen:
        request.exclude_video_ids.extend(query.seen)
    if query.filter != EVERYTHING:
        request.filter.CopyFrom(_encode_filter(query.filter))
    return request


def _encode_filter(wanted: VideoFilter) -> pb.VideoFilter:
    encoded = pb.VideoFilter(
        any_tags=wanted.any_tags,
        none_tags=wanted.none_tags,
        any_author_ids=wanted.any_author_ids,
        none_author_ids=wanted.none_author_ids,
        min_duration_ms=wanted.min_duration_ms,
        max_duration_ms=wanted.max_duration_ms,
    )
    if wanted.published_after_ns is not None:
        seconds, nanos = divmod(wanted.published_after_ns, 10**9)
        encoded.published_after.seconds = seconds
        encoded.published_after.nanos = nanos
    return encoded
