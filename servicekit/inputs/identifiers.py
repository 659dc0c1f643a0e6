"""Checks identifiers of users, videos and authors."""

import re
import unicodedata
from typing import Final

MAX_ID_BYTES: Final = 128
PLAIN: Final = re.compile(f"[ -~]{{1,{MAX_ID_BYTES}}}")
"""Matches nearly all good identifiers as a whole; `identifier_problem` tells of the others."""


def identifier_problem(value: str) -> str:
    """Return the fault of an identifier, or an empty text."""
    if value and len(value) <= MAX_ID_BYTES and value.isascii() and value.isprintable():
        return ""  # nearly all of them
    if not value:
        return "must not be empty"
    if len(value.encode("utf-8", "surrogatepass")) > MAX_ID_BYTES:
        return f"is longer than {MAX_ID_BYTES} bytes"
    if not value.isprintable():
        categories = {*map(unicodedata.category, value)}
        if "Cc" in categories:
            return "must not contain control characters"
        if "Cs" in categories:  # as JSON may hold, such as a token's claims
            return "must not contain half of a surrogate pair"
    return ""
