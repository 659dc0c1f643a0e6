"""Page tokens that carry what a feed session has shown, so that no page repeats a video whoever ranks it.

Layout, in URL-safe base64: checksum (8 bytes), request digest (8 bytes), how the rest is packed (1 byte), and the
rest: feed session, number of the page, and video ids, one a line. Identifiers hold no control characters, so a line
end cannot be part of one.
"""

import base64
import hashlib
import zlib
from dataclasses import dataclass
from typing import Final, Self

from bridge.page import EVERYTHING, VideoFilter
from servicekit.validation import MAX_ID_BYTES

MAX_SERVED: Final = 2000
"""Videos after which a feed session ends."""

_DIGEST_BYTES: Final = 8
_MAX_PLAIN_BYTES: Final = (MAX_SERVED + 2) * (MAX_ID_BYTES + 1)
_MAX_TOKEN_CHARACTERS: Final = 2 * _MAX_PLAIN_BYTES
_FORMAT: Final = b"2"
_PLAIN: Final = b"p"
_DEFLATED: Final = b"z"
_SHORT_BYTES: Final = 512
"""First pages are not worth the time of packing them."""


class InvalidPageTokenError(ValueError):
    """A text that this server did not make as a page token; the message says what is wrong."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PageToken:
    """Where a feed session stands.

    Attributes:
        feed_session_id: The session; empty for the trending feed.
        request: Digest of the request's fields that must stay as they were.
        page: Number of the next page, from 2.
        served: The videos shown so far, in order.
    """

    feed_session_id: str
    request: bytes
    page: int
    served: tuple[str, ...]

    def encode(self) -> str:
        """Return the token as text."""
        plain = "\n".join((self.feed_session_id, str(self.page), *self.served)).encode()
        # Level 1 takes a third of the default's time and gives the same size on identifiers.
        packed = _PLAIN + plain if len(plain) <= _SHORT_BYTES else _DEFLATED + zlib.compress(plain, 1)
        body = self.request + packed
        return base64.urlsafe_b64encode(_digest(body) + body).rstrip(b"=").decode()

    @classmethod
    def decode(cls, text: str) -> Self:
        """Return the token; InvalidPageTokenError when the text is none."""
        body = _checked_body(text)
        session, *rest = _unpack(body[_DIGEST_BYTES:]).split("\n")
        if not rest or not rest[0].isdecimal():
            raise InvalidPageTokenError("is corrupted")
        page, *served = rest
        return cls(feed_session_id=session, request=body[:_DIGEST_BYTES], page=int(page), served=tuple(served))


def request_digest(kind: str, user_id: str, surface: str, variant_id: str, video_filter: VideoFilter) -> bytes:
    """Return a digest of what must not change between the pages of one feed."""
    wanted = "" if video_filter == EVERYTHING else video_filter
    return _digest(repr((kind, user_id, surface, variant_id, wanted)).encode())


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES, key=_FORMAT).digest()


def _checked_body(text: str) -> bytes:
    if len(text) > _MAX_TOKEN_CHARACTERS:
        raise InvalidPageTokenError("is too long")
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise InvalidPageTokenError("is no page token") from None
    checksum, body = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
    if checksum != _digest(body) or base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
        raise InvalidPageTokenError("is corrupted")
    return body


def _unpack(data: bytes) -> str:
    kind, packed = data[:1], data[1:]
    inflater = zlib.decompressobj()
    try:
        if kind == _PLAIN:
            return packed.decode()
        plain = inflater.decompress(packed, _MAX_PLAIN_BYTES)
        if kind != _DEFLATED or not inflater.eof or inflater.unused_data:
            raise InvalidPageTokenError("is corrupted")
        return plain.decode()
    except (zlib.error, UnicodeDecodeError):
        raise InvalidPageTokenError("is corrupted") from None
