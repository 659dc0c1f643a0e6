"""The file that keeps the hidden set: what it returns after crashes and damage."""

import math
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.visibility.changes import Authorship, Change, FromKafka, Kind, Limits, ReadOffsets, Stored, Works
from bridge.visibility.hidden import FILE_NAME, Hidden
from bridge.visibility.hidden_file import HiddenFile

CHANGES: list[Change] = [
    Stored(kind=Kind.VIDEO, id="v\u2028ü", revision=7, hidden=True, taken_in=("h1", "h2")),
    Stored(kind=Kind.AUTHOR, id="a", revision=8, hidden=False),
    FromKafka(kind=Kind.AUTHOR, id="a", hide_id="h"),
    Limits(video_id="v", revision=3, expires_at_s=1.5, allowed=frozenset({"DE"}), denied=frozenset({"US", "FR"})),
    Limits(video_id="w", revision=4, expires_at_s=math.inf, denied=frozenset({"US"})),
    Works(author_id="a", video_ids=("x", "y")),
    Authorship(video_id="x", author_id=""),
    ReadOffsets(offsets=((0, 12), (5, 0))),
]


def test_what_was_appended_is_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "hidden.jsonl"
    file = HiddenFile(path)
    file.append(CHANGES[:3])
    file.append([])
    file.append(CHANGES[3:])
    file.close()
    again = HiddenFile(path)
    assert [*again.load()] == CHANGES
    assert (again.lines, again.odd) == (len(CHANGES), 0)
    again.rewrite(CHANGES[:2])
    again.append(CHANGES[2:3])
    assert [*HiddenFile(path).load()] == CHANGES[:3]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_not_there_is_an_empty_one(tmp_path: Path) -> None:
    assert [*HiddenFile(tmp_path / "none").load()] == []


def test_a_line_that_was_cut_off_is_passed_over_and_the_next_one_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "hidden.jsonl"
    file = HiddenFile(path)
    file.append(CHANGES[:2])
    file.close()
    os.truncate(path, path.stat().st_size - 5)
    file = HiddenFile(path)
    assert [*file.load()] == CHANGES[:1]
    file.append(CHANGES[2:3])
    file.close()
    again = HiddenFile(path)
    assert [*again.load()] == [CHANGES[0], CHANGES[2]]
    assert again.odd == 1


@given(st.data())
def test_no_damage_stops_the_reading(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("damage") / "hidden.jsonl"
    HiddenFile(path).rewrite(CHANGES)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    found = [*HiddenFile(path).load()]
    assert all(one in CHANGES for one in found)


async def test_a_disk_that_takes_nothing_stops_nothing(tmp_path: Path) -> None:
    """Pages obey all the same; the file is written as a whole as soon as that can be done."""
    folder = tmp_path / "folder"
    folder.write_text("a file is in the way")
    hidden = Hidden(folder / FILE_NAME)
    hidden.restore()
    hidden.take_in([Stored(kind=Kind.VIDEO, id="v", revision=1, hidden=True)])
    assert not await hidden.keep()
    assert hidden.bars("")("v", "")
    folder.unlink()
    hidden.take_in([Stored(kind=Kind.VIDEO, id="w", revision=2, hidden=True)])
    assert await hidden.keep()
    await hidden.close()
    again = Hidden(folder / FILE_NAME)
    again.restore()
    assert again.bars("")("v", "")
    assert again.bars("")("w", "")


async def test_the_file_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.visibility.hidden.SLACK_LINES", 10)
    hidden = Hidden(tmp_path / FILE_NAME)
    for revision in range(100):
        hidden.take_in([Stored(kind=Kind.VIDEO, id="v", revision=revision, hidden=revision % 2 == 0)])
        await hidden.keep()
    assert len((tmp_path / FILE_NAME).read_bytes().splitlines()) < 20
    await hidden.close()


async def test_how_old_the_knowledge_is(tmp_path: Path) -> None:
    clock = [100.0]
    hidden = Hidden(tmp_path / FILE_NAME, clock=lambda: clock[0], now=lambda: 1_700_000_000 + clock[0])
    hidden.heard(*hidden.clocks())
    assert hidden.as_of is None
    clock[0] += 60
    as_of: datetime | None = hidden.as_of
    assert as_of == datetime.fromtimestamp(1_700_000_100, UTC)
    hidden.heard(*hidden.clocks())
    assert hidden.as_of is None
