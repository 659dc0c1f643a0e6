"""Artefacts that are kept for comparison, and altered ones."""

import json
from pathlib import Path

from modelstore.artefact import MANIFEST, FileEntry, digest

GOLDEN = Path(__file__).parents[1] / "golden"


def reseal(folder: Path, name: str) -> None:
    entry = FileEntry(size=(folder / name).stat().st_size, sha256=digest(folder / name))
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = entry.model_dump()
    (folder / MANIFEST).write_text(json.dumps(manifest))
