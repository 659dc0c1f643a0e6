"""What no well-behaved client sends, as bytes on the wire: each is the caller's error, named, and nothing is kept."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from google.rpc.code_pb2 import INVALID_ARGUMENT
from grpc import StatusCode, aio
from grpc_status import rpc_status

from tests.bridge.support.events import event, recorded
from tests.bridge.support.ingestion import Ingestion, running_ingestion
from videowindow.feed.v1 import interaction_pb2 as pb

UNARY = "/videowindow.feed.v1.InteractionService/RecordInteraction"
STREAM = "/videowindow.feed.v1.InteractionService/StreamInteractions"
LENGTH, VARINT = 2, 0


@pytest.fixture(scope="module")
async def ingestion(postgres_url: str) -> AsyncIterator[Ingestion]:
    async with running_ingestion(postgres_url, None) as running:
        yield running


def _field(number: int, content: bytes) -> bytes:
    """Return a field of the wire format that has a length."""
    return bytes([number << 3 | LENGTH]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _raw(user: str, extra: bytes = b"", **fields: Any) -> bytes:
    """Return a request with one interaction, with bytes added that no client library would write."""
    return _field(1, event(user, **fields).SerializeToString() + extra)


def _entry(key: bytes, value: bytes) -> bytes:
    return _field(10, _field(1, key) + _field(2, value))


NOT_UTF8 = b"ab\xff\xfe"
BAD: dict[str, tuple[bytes, str]] = {
    "invalid UTF-8: event_id": (_field(1, NOT_UTF8), "interaction.event_id"),
    "invalid UTF-8: user_id": (_field(2, NOT_UTF8), "interaction.user_id"),
    "invalid UTF-8: half a surrogate pair": (_field(3, b"\xed\xa0\x80"), "interaction.video_id"),
    "invalid UTF-8: search_query": (_field(9, NOT_UTF8), "interaction.search_query"),
    "invalid UTF-8: metadata key": (_entry(NOT_UTF8, b"v"), "interaction.metadata"),
    "invalid UTF-8: metadata value": (_entry(b"k", NOT_UTF8), "interaction.metadata"),
    "invalid UTF-8: recommendation": (_field(7, _field(2, NOT_UTF8)), "interaction.recommendation.algorithm"),
    "type of a newer client": (bytes([4 << 3 | VARINT]) + _varint(77), "interaction.interaction_type"),
    "huge type": (bytes([4 << 3 | VARINT]) + _varint(2**31 - 1), "interaction.interaction_type"),
    "negative watch time": (bytes([5 << 3 | VARINT]) + _varint(2**64 - 1), "interaction.watch_time"),
    "least watch time": (bytes([5 << 3 | VARINT]) + _varint(2**63), "interaction.watch_time"),
    "far future": (_field(6, Timestamp(seconds=253402300799).SerializeToString()), "interaction.timestamp"),
    "beyond the calendar": (_field(6, Timestamp(seconds=2**62).SerializeToString()), "interaction.timestamp"),
    "far past": (_field(6, Timestamp(seconds=-62135596800).SerializeToString()), "interaction.timestamp"),
    "absurd id": (_field(2, b"u" * 500_000), "interaction.user_id"),
    "line break in an id": (_field(2, b"a\nb"), "interaction.user_id"),
    "NUL in an id": (_field(3, b"a\0b"), "interaction.video_id"),
    "1 MB of metadata in many entries": (
        b"".join(_entry(f"k{number}".encode(), b"x" * 500) for number in range(2000)), "interaction.metadata",
    ),
    "1 MB of metadata in one value": (_entry(b"k", b"x" * 1_000_000), "interaction.metadata['k']"),
    "a metadata key of 1 MB": (_entry(b"k" * 1_000_000, b""), "interaction.metadata"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
async def test_field_is_named(ingestion: Ingestion, case: str) -> None:
    """INVALID_ARGUMENT with the field, in a status that fits into headers."""
    user = f"user-{uuid4()}"
    extra, field = BAD[case]
    async with aio.insecure_channel(ingestion.address) as channel:
        unary: Any = channel.unary_unary(UNARY)
        with pytest.raises(aio.AioRpcError) as caught:
            await unary(_raw(user, extra))
    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # an AioRpcError has what it needs
    assert caught.value.code() is StatusCode.INVALID_ARGUMENT
    assert status is not None
    bad: Any = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in status.details)
    assert {violation.field for violation in bad.field_violations} == {field}
    assert await ingestion.rows("SELECT 1 FROM user_interactions WHERE user_id = %s", user) == []


async def test_bad_events_do_not_end_a_stream(ingestion: Ingestion) -> None:
    """Each is answered in its place with the field; the good ones between them are recorded."""
    user = f"user-{uuid4()}"
    requests: list[bytes] = []
    for extra, _ in BAD.values():
        requests += [_raw(user, extra), _raw(user)]
    requests += [b"\x0a\xff", _raw(user)]
    async with aio.insecure_channel(ingestion.address) as channel:
        stream: Any = channel.stream_stream(STREAM, response_deserializer=pb.StreamInteractionsResponse.FromString)
        replies = [reply async for reply in stream(iter(requests))]
    assert [reply.index for reply in replies] == list(range(len(requests)))
    refused, accepted = replies[::2], replies[1::2]
    assert [reply.error.field for reply in refused] == [*(field for _, field in BAD.values()), ""]
    assert {reply.error.code for reply in refused} == {INVALID_ARGUMENT}
    assert refused[-1].error.reason == "MALFORMED_REQUEST"
    assert {reply.status for reply in accepted} == {pb.ACKNOWLEDGEMENT_STATUS_ACCEPTED}
    assert len(await recorded(ingestion, len(accepted), user)) == len(accepted)


async def test_unknown_fields_of_a_newer_client_are_passed_over(ingestion: Ingestion) -> None:
    """Also where they hold what is no text."""
    user = f"user-{uuid4()}"
    async with aio.insecure_channel(ingestion.address) as channel:
        unary: Any = channel.unary_unary(UNARY, response_deserializer=pb.RecordInteractionResponse.FromString)
        reply = await unary(_raw(user, _field(15, NOT_UTF8)))
    assert reply.status == pb.ACKNOWLEDGEMENT_STATUS_ACCEPTED


async def test_request_that_is_no_message(ingestion: Ingestion) -> None:
    async with aio.insecure_channel(ingestion.address) as channel:
        unary: Any = channel.unary_unary(UNARY)
        with pytest.raises(aio.AioRpcError) as caught:
            await unary(b"\x0a\xff")
    assert caught.value.code() is StatusCode.INVALID_ARGUMENT
    assert (caught.value.details() or "").startswith("the request cannot be decoded")
