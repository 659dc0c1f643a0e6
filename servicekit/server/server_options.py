"""Defines arguments of every server for gRPC's core: number, age and capacity of connections."""

from collections.abc import Sequence
from typing import Final

OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    # Off, so that a second server on the same port fails instead of silently taking half of the calls.
    ("grpc.so_reuseport", 0),
    # Clients ping to notice dead peers, in Go each 10 s at most; gRPC's default would answer that with GOAWAY. Half of
    # it, as pings come early at times.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # The server notices dead peers likewise: their streams would be open for ever.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Clients connect anew now and then (gRPC varies the age by a tenth), so that new replicas get calls. Calls under
    # way go on, on the old connection.
    ("grpc.max_connection_age_ms", 20 * 60_000),
    ("grpc.max_connection_age_grace_ms", 60 * 60_000),
    ("grpc.max_connection_idle_ms", 30 * 60_000),
    # What one client, and all of them, can hold; a client keeps further calls to itself until one has ended.
    ("grpc.max_concurrent_streams", 1_000),
    ("grpc.max_allowed_incoming_connections", 4_096),
)

# Calls that wait for a thread are for load shedding to refuse, with a reason: by default gRPC's core cancels some of a
# thousand.
_WAITING: Final = (
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
)


def merged(options: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the defaults, replaced by these: gRPC would use the first of two values of one argument."""
    return list({**dict(OPTIONS), **dict(_WAITING), **dict(options)}.items())
