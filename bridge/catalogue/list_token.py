"""Page tokens of lists: the last id, and a digest of the filters. They grant nothing, so nobody signs them."""

import base64
import hashlib
from typing import Final

from servicekit.grpc.errors import Violation, invalid_argument
from servicekit.inputs.identifiers import MAX_ID_BYTES, identifier_problem

DIGEST_BYTES: Final = 8
MAX_CHARACTERS: Final = 2 * (MAX_ID_BYTES + DIGEST_BYTES)


def encode_token(last_id: str, filters: str) -> str:
    """Return the token of the page behind an id."""
    return base64.urlsafe_b64encode(_digest(filters) + last_id.encode()).rstrip(b"=").decode()


def decode_token(text: str, filters: str) -> str:
    """Return the id that the page is behind; INVALID_ARGUMENT for a token of another list, and for no token."""
    if not text:
        return ""
    raw = _raw(text)
    if raw[:DIGEST_BYTES] != _digest(filters):
        raise invalid_argument(Violation("page_token", "belongs to another request, or is corrupted"))
    try:
        last_id = raw[DIGEST_BYTES:].decode()
    except UnicodeDecodeError:
        last_id = ""
    if identifier_problem(last_id):
        raise invalid_argument(Violation("page_token", "is corrupted"))
    return last_id


def _raw(text: str) -> bytes:
    if len(text) > MAX_CHARACTERS:
        raise invalid_argument(Violation("page_token", "is too long"))
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise invalid_argument(Violation("page_token", "is no page token")) from None


def _digest(filters: str) -> bytes:
    return hashlib.blake2b(filters.encode(), digest_size=DIGEST_BYTES).digest()
