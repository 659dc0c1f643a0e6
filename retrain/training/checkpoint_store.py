"""Stores checkpoints in the model store, `checkpoints/<version>/…` beside the models; no server downloads them.

A checkpoint counts while its model is published, and goes with it. Where models are signed, so are checkpoints: the
next model is made of them.
"""

import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Final

from modelstore.registry import checked
from modelstore.signature import SignatureError, SigningKey
from retrain.training.checkpoint import (
    MANIFEST,
    Checkpoint,
    CheckpointError,
    Description,
    read,
    read_description,
    write,
)
from servicekit.storage.object_store import ObjectNotFoundError, ObjectStore

FOLDER: Final = "checkpoints"
SIGNATURE: Final = f"{MANIFEST}.sig"
KEPT: Final = 3
"""Newest checkpoints that are kept: one to go on from, and others in case it is broken or its model taken back."""
_PURPOSE: Final = b"checkpoint\n"
"""Stands before what is signed, so that no checkpoint passes for a model or the other way round."""


class CheckpointStore:
    """The checkpoints of a model store.

    Args:
        store: The model store.
        key: Signs checkpoints and knows its own signature again; None where models are not signed.
    """

    def __init__(self, store: ObjectStore, key: SigningKey | None = None) -> None:
        self._store = store
        self._key = key

    def versions(self) -> list[str]:
        """Return the versions with a complete checkpoint, newest data first."""
        keys = (key.split("/") for key in self._store.list(f"{FOLDER}/"))
        return sorted((parts[1] for parts in keys if len(parts) == 3 and parts[2] == MANIFEST), reverse=True)

    def describe(self, version: str) -> Description:
        """Return the description of a version's checkpoint; CheckpointError when it cannot be read or trusted."""
        manifest = self._read(version, MANIFEST)
        if self._key:
            try:
                self._key.verifier().check(_PURPOSE + manifest, self._read(version, SIGNATURE))
            except SignatureError as error:
                raise CheckpointError(str(error)) from None
        return read_description(manifest)

    def load(self, version: str) -> Checkpoint:
        """Return a version's checkpoint; CheckpointError when a checksum differs."""
        description = self.describe(version)
        with tempfile.TemporaryDirectory(prefix="checkpoint-") as name:
            folder = Path(name)
            for file in description.files:
                self._download(version, file, folder)
            (folder / MANIFEST).write_text(description.model_dump_json(), encoding="utf-8")
            return read(folder)

    def save(self, checkpoint: Checkpoint) -> None:
        """Upload a checkpoint under its version's name, its manifest last."""
        version = checked(checkpoint.description.version)
        with tempfile.TemporaryDirectory(prefix="checkpoint-") as name:
            folder = Path(name)
            description = write(checkpoint, folder)
            if self._key:
                signature = self._key.sign(_PURPOSE + (folder / MANIFEST).read_bytes())
                (folder / SIGNATURE).write_bytes(signature)
            names = [*description.files, *([SIGNATURE] if self._key else []), MANIFEST]
            for file in names:
                self._store.upload(folder / file, f"{FOLDER}/{version}/{file}")

    def prune(self, models: Collection[str]) -> None:
        """Remove all but the newest checkpoints of these models, each manifest first."""
        kept = [version for version in self.versions() if version in models][:KEPT]
        keys = [key for key in self._store.list(f"{FOLDER}/") if key.split("/")[1] not in kept]
        for key in sorted(keys, key=lambda key: not key.endswith(f"/{MANIFEST}")):
            self._store.delete(key)

    def _read(self, version: str, name: str) -> bytes:
        try:
            return self._store.read(f"{FOLDER}/{checked(version)}/{name}").data
        except ObjectNotFoundError:
            raise CheckpointError(f"{name} is missing") from None

    def _download(self, version: str, name: str, folder: Path) -> None:
        try:
            self._store.download(f"{FOLDER}/{version}/{name}", folder / name)
        except ObjectNotFoundError:
            raise CheckpointError(f"{name} is missing") from None
