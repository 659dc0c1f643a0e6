"""Reads the data that the local system starts from: exports by day and, optionally, a catalogue."""

from dataclasses import dataclass
from pathlib import Path

from deploy.local.child_process import ChildError
from retrain.data.exports import ExportDay, list_days
from servicekit.storage.object_store import FileStore


@dataclass(frozen=True, slots=True)
class DataSet:
    """A folder that holds `exports/YYYY-MM-DD/*.parquet` and, optionally, `videos.parquet` and more."""

    folder: Path

    @property
    def days(self) -> list[ExportDay]:
        """Return the days that hold a file, oldest first: those that a run sees."""
        return [day for day in list_days(FileStore(self.folder / "exports")) if day.keys]

    @property
    def exports(self) -> list[Path]:
        """Return the export files, oldest day first."""
        return [self.folder / "exports" / key for day in self.days for key in day.keys]

    @property
    def videos(self) -> Path | None:
        """Return the catalogue, if there is one."""
        path = self.folder / "videos.parquet"
        return path if path.is_file() else None

    def check(self) -> None:
        """Raise ChildError with one clear line unless the folder holds usable data."""
        if not self.folder.is_dir():
            raise ChildError(f"there is no folder {self.folder}")
        if not self.exports:
            raise ChildError(f"{self.folder} holds no exports/YYYY-MM-DD/*.parquet")

    def url(self, name: str = "") -> str:
        """Return the `file://` URL of a part, or of the whole."""
        return (self.folder / name).as_uri()
