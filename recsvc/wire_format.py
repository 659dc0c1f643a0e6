"""Encodes protobuf by hand: fields of text, and pages as the bytes of a `RecommendResponse`.

Building a message of twenty videos and serialising it costs more than finding them, so a page is put together from
parts that are made once for each model; one with reasons is built as a message. The wire format:
https://protobuf.dev/programming-guides/encoding/.
"""

from datetime import datetime
from functools import lru_cache
from typing import Final

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from modelstore.id_map import IdMap
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb

_SCORE_BYTES: Final = 8
_DOUBLE: Final = np.dtype("<f8")
_OPAQUE: Final = np.dtype((np.void, _SCORE_BYTES))


def _tag(message: type, field: str, wire_type: int) -> bytes:
    """Return the tag of a field."""
    number: int = message.DESCRIPTOR.fields_by_name[field].number  # type: ignore[attr-defined]  # of a message
    return _varint(number << 3 | wire_type)


@lru_cache(4096)
def _varint(number: int) -> bytes:
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


_FIXED64, _LENGTH = 1, 2


def text_tag(message: type, field: str) -> bytes:
    """Return the tag and length of a field of text or bytes, or of a nested message."""
    return _tag(message, field, _LENGTH)


def text(tag: bytes, value: str) -> bytes:
    """Return a field of text."""
    encoded = value.encode()
    return tag + _varint(len(encoded)) + encoded


_VIDEO: Final = text_tag(pb.RecommendResponse, "videos")
_TOKEN: Final = text_tag(pb.RecommendResponse, "next_page_token")
_ID: Final = text_tag(pb.ScoredVideo, "video_id")
_SCORE: Final = _tag(pb.ScoredVideo, "score", _FIXED64)


def heads_of(videos: IdMap) -> "NDArray[np.bytes_]":
    """Return, for each video, a `videos` entry of the reply up to the bytes of its score, (V,)."""
    width = videos.array.dtype.itemsize
    letters = np.ascontiguousarray(videos.array).view(np.uint8).reshape(len(videos), width)
    lengths = np.strings.str_len(videos.array)
    heads = np.zeros((len(videos), len(_start(width)) + width + len(_SCORE)), np.uint8)
    for length in np.unique(lengths).tolist():
        start, rows = _start(length), np.flatnonzero(lengths == length)
        filled = heads[:, : len(start) + length + len(_SCORE)]
        filled[rows, : len(start)] = np.frombuffer(start, np.uint8)
        filled[rows, len(start) : -len(_SCORE)] = letters[rows, :length]
        filled[rows, -len(_SCORE) :] = np.frombuffer(_SCORE, np.uint8)
    # No head ends in NUL, which a fixed-width array would not keep.
    return heads.reshape(-1).view(f"S{heads.shape[1]}")


def _start(length: int) -> bytes:
    """Return the bytes before an identifier of this length."""
    identifier = _ID + _varint(length)
    return _VIDEO + _varint(len(identifier) + length + len(_SCORE) + _SCORE_BYTES) + identifier


def reply(heads: list[bytes], scores: NDArray[np.float32], next_page_token: str, tail: bytes) -> bytes:
    """Return the bytes of a reply.

    Args:
        heads: Of the page's videos.
        scores: Theirs.
        next_page_token: Empty on the last page.
        tail: See `tail`.
    """
    parts = [b""] * (2 * len(heads))
    parts[::2] = heads
    parts[1::2] = scores.astype(_DOUBLE).view(_OPAQUE).tolist()
    if next_page_token:
        parts.append(text(_TOKEN, next_page_token))
    parts.append(tail)
    return b"".join(parts)


@lru_cache(64)
def tail(algorithm: str, version: str, trained_at: datetime, state: "pb.UserState.ValueType") -> bytes:
    """Return the bytes that all replies of one model to users in one state have in common."""
    moment = Timestamp()
    moment.FromDatetime(trained_at)
    common = pb.RecommendResponse(algorithm=algorithm, model_version=version, model_trained_at=moment, user_state=state)
    return common.SerializeToString()
