"""Messages that only other programs than the bridge can have written."""

from typing import Any

import pytest

from bridge.kafka.consumer import KafkaReader, Received
from bridge.kafka.dead_letters import dead_letter
from bridge.kafka.message import INTERACTIONS_TOPIC, UNRECORDED
from bridge.kafka.replay import _letter
from bridge.maintenance.backfill_topics import BACKFILL_TOPICS


class _Message:
    """A message as the client gives it; with `None` for headers, the name of one is no UTF-8."""

    def __init__(self, offset: int, headers: list[tuple[str, bytes | None]] | None) -> None:
        self._offset = offset
        self._headers = headers

    def headers(self) -> list[tuple[str, bytes | None]]:
        if self._headers is None:
            raise SystemError("returned a result with an exception set") from UnicodeDecodeError("utf-8", b"", 0, 1, "")
        return self._headers

    def error(self) -> None:
        return None

    def topic(self) -> str:
        return INTERACTIONS_TOPIC

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, 1

    def key(self) -> bytes:
        return b"user"

    def value(self) -> bytes:
        return b"{}"


MARKED: list[tuple[str, bytes | None]] = [(UNRECORDED, b"1")]


async def _read(messages: list[_Message], monkeypatch: pytest.MonkeyPatch) -> list[Received]:
    reader = KafkaReader({"bootstrap.servers": "127.0.0.1:1"}, ["t"], group="g", header=UNRECORDED)
    opened = reader._consumer

    class _Consumer:
        def consume(self, *_: Any) -> list[_Message]:
            return messages

    monkeypatch.setattr(reader, "_consumer", _Consumer())
    try:
        return await reader.read()
    finally:
        opened.close()


async def test_a_header_whose_name_is_no_utf8_takes_no_other_message_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read with it is returned, and so is it, without headers, to become a dead letter."""
    received = await _read([_Message(1, MARKED), _Message(2, None), _Message(3, []), _Message(4, MARKED)], monkeypatch)
    assert [(one.offset, one.headers) for one in received] == [(1, {UNRECORDED: "1"}), (2, {}), (4, {UNRECORDED: "1"})]
    odd = received[1]
    with pytest.raises(ValueError, match="UUID") as error:
        BACKFILL_TOPICS[odd.topic].read(odd.value or b"", odd.headers)
    assert dead_letter(odd, error.value, stage="BACKFILL").value == "{}"


def test_a_letter_whose_headers_cannot_be_read_names_no_topic() -> None:
    """A replay sets it aside once more, and goes on."""
    letter = _letter(_Message(1, None))
    assert (letter.headers, letter.place) == ((), "?/?/?")
