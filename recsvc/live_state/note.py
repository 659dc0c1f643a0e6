"""Note of how the store was left: by which run of the machine, and whether all of it was on disk."""

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from recsvc.live_state.keys import FORMAT
from servicekit.files.replacement import PRIVATE, write_whole

NOTE: Final = "note.json"
BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
MAX_BYTES: Final = 4096


class Note(BaseModel):
    """The facts about the store that stand in no file of its own.

    Attributes:
        store_format: Of its keys and values.
        boot: The machine's run in which it was written to last.
        session: The run of recsvc that has checked it.
        is_synced: Whether all that was committed is on disk.
        environment: The one whose digest was noted; empty while it is written to.
        digest: Of that environment's file.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    store_format: int = FORMAT
    boot: str
    session: str
    is_synced: bool
    environment: str = ""
    digest: str = ""


def boot_id() -> str:
    """Return what names this run of the machine; an empty text where the kernel does not say."""
    try:
        return BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def write_note(folder: Path, note: Note) -> None:
    """Put a note in the place of the one before; it is on disk afterwards."""
    write_whole(folder / NOTE, note.model_dump_json(), mode=PRIVATE)


def read_note(folder: Path) -> Note | None:
    """Return the note, None where there is none or it cannot be read."""
    try:
        with (folder / NOTE).open("rb") as file:
            return Note.model_validate_json(file.read(MAX_BYTES))
    except (FileNotFoundError, ValidationError):
        return None
