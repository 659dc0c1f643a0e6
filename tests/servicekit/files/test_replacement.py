"""Files that are replaced are whole, on disk and in place, or else as they were."""

import os
from pathlib import Path

import pytest

from servicekit.files.replacement import PRIVATE, creating, replacing, write_whole


@pytest.mark.parametrize(("content", "held"), [("text, é", "text, é".encode()), (b"\x00bytes", b"\x00bytes")])
def test_a_file_takes_the_place_of_another(tmp_path: Path, content: str | bytes, held: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    write_whole(path, content)
    assert path.read_bytes() == held
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_private_file_is_its_owners_alone(tmp_path: Path) -> None:
    write_whole(tmp_path / "private", "secret", mode=PRIVATE)
    write_whole(tmp_path / "public", "known")
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "public").stat().st_mode & 0o777 == 0o644


def test_the_file_is_on_disk_before_it_is_in_place_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "file", list[tuple[str, bool]]()
    sync = os.fsync

    def noted(descriptor: int) -> None:
        seen.append((Path(f"/proc/self/fd/{descriptor}").readlink().name[:1], path.exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    write_whole(path, "content")
    assert seen == [(".", False), (tmp_path.name[:1], True)]


def test_what_fails_leaves_what_was_there_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def fail() -> None:
        with replacing(path) as beside:
            beside.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_bytes() == b"before"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_file_is_created_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with creating(path) as beside:
        beside.write_bytes(b"first")
    with pytest.raises(FileExistsError), creating(path) as beside:
        beside.write_bytes(b"second")
    assert path.read_bytes() == b"first"


def test_an_error_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"):
        write_whole(tmp_path / "gone" / "file", "content")
