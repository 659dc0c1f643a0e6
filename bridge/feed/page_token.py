"""Encodes page tokens that carry the shown videos of a feed session, so that no page repeats one whoever ranks it.

Callers hold them, so they are signed, and what they carry passes the checks of a request's own fields all the same.

Layout, in URL-safe base64: signature (16 bytes), name of its key (4 bytes), request digest (8 bytes), how the rest is
packed (1 byte), and the rest: feed session, number of the page, and video ids, one a line. Identifiers hold no control
characters, so a line end cannot be part of one. The signature is HMAC-SHA-256, cut to half, of all that follows it.
"""

import base64
import hashlib
import hmac
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bridge.domain.page import EVERYTHING, VideoFilter
from servicekit.inputs.identifiers import MAX_ID_BYTES, identifier_problem

MAX_SERVED: Final = 2000
"""Videos after which a feed session ends."""

MIN_KEY_BYTES: Final = 32
MAX_KEYS: Final = 8
"""Keys that are good at a time."""

_SIGNATURE_BYTES: Final = 16
_NAME_BYTES: Final = 4
_DIGEST_BYTES: Final = 8
_MAX_PLAIN_BYTES: Final = (MAX_SERVED + 2) * (MAX_ID_BYTES + 1)
_MAX_TOKEN_CHARACTERS: Final = 2 * _MAX_PLAIN_BYTES
_MAX_PAGE_DIGITS: Final = len(str(MAX_SERVED + 1))
_PRINTABLE: Final = bytes(range(0x20, 0x7F))
_LINES: Final = _PRINTABLE + b"\n"
_FORMAT: Final = b"3"
_PLAIN: Final = b"p"
_DEFLATED: Final = b"z"
_SHORT_BYTES: Final = 512
"""First pages are not worth the time of packing them."""


class InvalidPageTokenError(ValueError):
    """A text that is no page token of this fleet; the message says what is wrong."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PageToken:
    """The state of a feed session.

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


class PageTokens:
    """Signs page tokens, and reads those that are signed with a known key.

    Args:
        keys: As `use` takes them.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys: dict[bytes, bytes] = {}
        self._signing = b""
        self.use(keys)

    def use(self, keys: Sequence[bytes]) -> None:
        """Sign with the first key from now on, and accept all; ValueError for no key, too many, or a short one."""
        if not 1 <= len(keys) <= MAX_KEYS or any(len(key) < MIN_KEY_BYTES for key in keys):
            raise ValueError(f"page tokens need 1 to {MAX_KEYS} keys of at least {MIN_KEY_BYTES} bytes each")
        named = {_name(key): key for key in keys}
        self._keys, self._signing = named, _name(keys[0])

    def encode(self, token: PageToken) -> str:
        """Return the token as text, without videos whose id no request may name."""
        served: Sequence[str] = token.served
        plain = "\n".join((token.feed_session_id, str(token.page), *served)).encode()
        if plain.count(b"\n") != len(served) + 1 or plain.translate(None, _LINES) or not _short(served):
            served = [one for one in served if not identifier_problem(one)]  # a model or a table held odd ones
            plain = "\n".join((token.feed_session_id, str(token.page), *served)).encode()
        # Level 1 takes a third of the default's time and gives the same size on identifiers.
        packed = _PLAIN + plain if len(plain) <= _SHORT_BYTES else _DEFLATED + zlib.compress(plain, 1)
        name = self._signing
        body = name + token.request + packed
        return base64.urlsafe_b64encode(_signature(self._keys[name], body) + body).rstrip(b"=").decode()

    def decode(self, text: str) -> PageToken:
        """Return the token of a text; InvalidPageTokenError when the text is no token."""
        body = self._signed_body(text)
        request, packed = body[_NAME_BYTES : _NAME_BYTES + _DIGEST_BYTES], body[_NAME_BYTES + _DIGEST_BYTES :]
        session, *rest = _unpack(packed).split("\n")
        if not rest:
            raise InvalidPageTokenError("is corrupted")
        return _checked(session, rest[0], rest[1:], request)

    def _signed_body(self, text: str) -> bytes:
        if len(text) > _MAX_TOKEN_CHARACTERS:
            raise InvalidPageTokenError("is too long")
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except ValueError:
            raise InvalidPageTokenError("is no page token") from None
        signature, body = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        key = self._keys.get(body[:_NAME_BYTES])
        if key is None:
            raise InvalidPageTokenError("is of another fleet, or too old: ask for the first page again")
        signed = hmac.compare_digest(signature, _signature(key, body))
        if not signed or base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
            raise InvalidPageTokenError("is corrupted")
        return body


def _checked(session: str, page: str, served: Sequence[str], request: bytes) -> PageToken:
    """Check the fields of an unpacked token: a valid signature proves neither care nor an unstolen key."""
    number = int(page) if page.isascii() and page.isdecimal() and len(page) <= _MAX_PAGE_DIGITS else 0
    if not 2 <= number <= MAX_SERVED + 1 or len(served) > MAX_SERVED:
        raise InvalidPageTokenError("is corrupted")
    if (session and identifier_problem(session)) or not _sound(served):
        raise InvalidPageTokenError("is corrupted")
    return PageToken(feed_session_id=session, request=request, page=number, served=tuple(served))


def _sound(video_ids: Sequence[str]) -> bool:
    """Return whether all texts may be ids; joined they are checked at once where they are plain, as nearly all are."""
    joined = "".join(video_ids)
    if joined.isascii() and not joined.encode().translate(None, _PRINTABLE):
        return _short(video_ids)
    return not any(map(identifier_problem, video_ids))


def _short(video_ids: Sequence[str]) -> bool:
    return "" not in video_ids and max(map(len, video_ids), default=0) <= MAX_ID_BYTES


def request_digest(kind: str, user_id: str, surface: str, variant_id: str, video_filter: VideoFilter) -> bytes:
    """Return a digest of the parts of a request that must not change between the pages of one feed."""
    wanted = "" if video_filter == EVERYTHING else video_filter
    return _digest(repr((kind, user_id, surface, variant_id, wanted)).encode())


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES, key=_FORMAT).digest()


def _name(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=_NAME_BYTES, key=_FORMAT).digest()


def _signature(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, body, "sha256")[:_SIGNATURE_BYTES]


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
