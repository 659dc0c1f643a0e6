"""Fingerprints users for lists of erased ones, which must not hold names."""

from hashlib import blake2b
from typing import Final

_EMPTY: Final = blake2b(digest_size=16, person=b"forgotten")
"""A copy takes less than half of the time of a new one; each page takes one."""


def user_fingerprint(user_id: str) -> bytes:
    """Return the fingerprint of a user, 16 bytes."""
    fingerprint = _EMPTY.copy()
    fingerprint.update(user_id.encode())
    return fingerprint.digest()
