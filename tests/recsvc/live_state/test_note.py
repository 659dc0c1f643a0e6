"""The note tells the next start how the store was left."""

from pathlib import Path

from recsvc.live_state.note import Note, boot_id, read_note, write_note


def test_the_kernel_names_its_run() -> None:
    assert boot_id() == boot_id()
    assert len(boot_id()) == 36


def test_a_note_comes_back(tmp_path: Path) -> None:
    note = Note(boot="b", session="s", is_synced=True, environment="store-1", digest="d")

    write_note(tmp_path, note)

    assert read_note(tmp_path) == note
