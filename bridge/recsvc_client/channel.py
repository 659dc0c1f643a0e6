"""Opens channels to recsvc, and keeps them connected."""

import asyncio
from collections.abc import Callable
from typing import Final

from grpc import ChannelConnectivity, aio

from servicekit.credentials.tls_files import ClientTls, InsecureListenError, is_loopback

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
    """Connect before the first user comes; return whether recsvc answered in time."""
    connected = asyncio.create_task(channel.channel_ready())
    done, _ = await asyncio.wait([connected], timeout=timeout_s)
    connected.cancel()
    return bool(done)


async def keep_connected(channel: aio.Channel, on_connected: Callable[[], None]) -> None:
    """Reconnect whenever the connection is lost, and report each connection; end with the channel.

    A peer that is back is so found at once, not by the next user's call.
    """
    state = channel.get_state(try_to_connect=True)
    while state is not ChannelConnectivity.SHUTDOWN:
        await channel.wait_for_state_change(state)
        state = channel.get_state(try_to_connect=True)
        if state is ChannelConnectivity.READY:
            on_connected()
