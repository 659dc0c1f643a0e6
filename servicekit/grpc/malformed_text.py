"""Finds the field of a request that is not valid UTF-8, which protobuf's parser does not name.

The wire format is that of https://protobuf.dev/programming-guides/encoding/.
"""

from collections.abc import Iterator
from typing import Any, Final

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_DEPTH: Final = 16


def find_bad_text(descriptor: Any, data: bytes) -> str:
    """Return the path of the first invalid string, such as `interaction.user_id`; empty if all are valid.

    Args:
        descriptor: Of the message's type.
        data: A message that the parser refused.
    """
    try:
        return _find(descriptor, data, 0)
    except (IndexError, ValueError):
        return ""  # it is broken in other ways, too


def _find(descriptor: Any, data: bytes, depth: int) -> str:
    if depth > MAX_DEPTH:
        return ""
    for number, content in _fields(data):
        field = descriptor.fields_by_number.get(number)
        if field is None:
            continue
        if field.type == field.TYPE_STRING and not _is_text(content):
            return str(field.name)
        if field.type == field.TYPE_MESSAGE:
            below = _find(field.message_type, content, depth + 1)
            if below:
                # A map is a list of entries: which part of one it is says nothing to callers.
                return field.name if field.message_type.GetOptions().map_entry else f"{field.name}.{below}"
    return ""


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the number and content of each length-delimited field."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        kind = tag & 7
        if kind == VARINT:
            _, place = _varint(data, place)
        elif kind == BYTES:
            length, place = _varint(data, place)
            yield tag >> 3, data[place : place + length]
            place += length
        elif kind in (FIXED32, FIXED64):
            place += 4 if kind == FIXED32 else 8
        else:
            raise ValueError("groups are not used")


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
