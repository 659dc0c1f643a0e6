"""Encodes page tokens, which say where the next page of one feed starts.

A token names the videos that were already returned, not only their number, so pages never repeat one, even when the
model or the user's profile changed in between. It is opaque to callers, bounded, and bound to its request.

Layout, little-endian, then base64url without padding:
format u8 | length of model version u8 | model version | request digest 8 bytes | fingerprints u32 … | CRC-32 u32.
"""

import binascii
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from servicekit.grpc.errors import Violation, invalid_argument

FORMAT: Final = 1
DIGEST_BYTES: Final = 8
MAX_POSITION: Final = 10_000
"""Videos of one feed; the page that reaches it is the last."""
_CHECKSUM_BYTES: Final = 4
_MODELS: Final = b"M"
"""First byte of the tokens of lists of models; never a format."""
_MAX_CHARACTERS: Final = (2 + 255 + DIGEST_BYTES + 4 * MAX_POSITION + _CHECKSUM_BYTES) * 4 // 3 + 4

_UINT32: Final = np.dtype("<u4")
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_FOREIGN: Final = "is not a next_page_token of this server"
NOTHING: Final = np.empty(0, np.uint32)


@dataclass(frozen=True, kw_only=True, slots=True)
class PageToken:
    """The state of one feed between two pages."""

    model_version: str
    """The model that ranked the page before."""
    digest: bytes
    """Digest of the request fields that must not change."""
    served: NDArray[np.uint32]
    """Fingerprints of the videos returned so far."""

    @property
    def position(self) -> int:
        """Return the number of videos returned so far."""
        return len(self.served)


def encode(model_version: str, digest: bytes, before: NDArray[np.uint32], page: NDArray[np.uint32]) -> str:
    """Return the text of a token.

    Args:
        model_version: See `PageToken`.
        digest: See there.
        before: Fingerprints in the token of this page.
        page: Fingerprints of the videos of this page.
    """
    served = page.astype(_UINT32, copy=False).tobytes()
    if len(before):
        served = before.astype(_UINT32, copy=False).tobytes() + served
    return _seal(_head(model_version) + digest + served)


def decode(text: str, digest: bytes) -> PageToken:
    """Return the token for a request of this digest; INVALID_ARGUMENT says what is wrong."""
    body = _checked(text)
    if body[0] != FORMAT:
        raise _invalid(f"is of format {body[0]}, which this server does not know; start again from the first page")
    start = 2 + (body[1] if len(body) > 1 else 0)
    end = start + DIGEST_BYTES
    if len(body) < end or (len(body) - end) % 4:
        raise _invalid("has a wrong length")
    if body[start:end] != digest:
        raise _invalid("belongs to another request: only page_size, explain and request_id may change between pages")
    served = np.frombuffer(body, "<u4", offset=end)
    if not 0 < len(served) < MAX_POSITION:
        raise _invalid(f"names {len(served)} videos, which no page of this server leads to")
    return PageToken(model_version=body[2:start].decode(errors="replace"), digest=digest, served=served)


def encode_version(version: str) -> str:
    """Return the token of the page of models that follows a version."""
    return _seal(_MODELS + version.encode())


def decode_version(text: str) -> str:
    """Return the version that a page of models follows; INVALID_ARGUMENT says what is wrong."""
    body = _checked(text)
    if not body.startswith(_MODELS):
        raise _invalid("belongs to another method")
    return body.removeprefix(_MODELS).decode(errors="replace")


@lru_cache(16)
def _head(model_version: str) -> bytes:
    version = model_version.encode()
    return bytes((FORMAT, len(version))) + version


def _seal(body: bytes) -> str:
    data = body + zlib.crc32(body).to_bytes(_CHECKSUM_BYTES, "little")
    return binascii.b2a_base64(data, newline=False).translate(_URL_SAFE).rstrip(b"=").decode("ascii")


def _checked(text: str) -> bytes:
    """Return the token's bytes, at least one, without their checksum, after verifying it."""
    if len(text) > _MAX_CHARACTERS:
        raise _invalid(f"is longer than {_MAX_CHARACTERS} characters")
    try:
        letters = text.encode("ascii").translate(_STANDARD)
        data = binascii.a2b_base64(letters + b"=" * (-len(letters) % 4), strict_mode=True)
    except (ValueError, binascii.Error):
        raise _invalid(_FOREIGN) from None
    # A token has one spelling: without padding, and without bits that no byte takes.
    if not letters.endswith(binascii.b2a_base64(data[(len(data) - 1) // 3 * 3 :], newline=False).rstrip(b"=")):
        raise _invalid(_FOREIGN)
    body, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
    if not body or zlib.crc32(body) != int.from_bytes(checksum, "little"):
        raise _invalid("is damaged or cut short")
    return body


def _invalid(description: str) -> Exception:
    return invalid_argument(Violation("page_token", description))
