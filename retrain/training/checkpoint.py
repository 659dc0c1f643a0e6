"""Keeps the state of training on disk: a folder of `.npy` files, and `manifest.json`, written last; never a pickle.

Rows change from night to night, so it holds the identifiers of its users and videos, and is read in the terms of
others. Every file's size and SHA-256 stand in the manifest.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict, FiniteFloat, ValidationError

from modelstore.artefact import FileEntry, digest, write_arrays
from modelstore.id_map import UNKNOWN, IdMap
from retrain.training.lightfm_trainer import LEARNT, TrainingState

FORMAT: Final = 1
"""Version of this layout: raise it when older code must not read a checkpoint, or this code not an older one."""
MANIFEST: Final = "manifest.json"


class CheckpointError(Exception):
    """A checkpoint that training cannot resume from."""


class Description(BaseModel):
    """Description of a state."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    version: str
    """The model that was published with it."""
    method: str
    """Digest of the settings and the code: another method does not go on from here."""
    factors: int
    data_until: AwareDatetime
    """The first instant (UTC) that was not learnt from."""
    full_fit_until: AwareDatetime
    """The same of the last fit that began from nothing, also of one that the gate refused."""
    popularity_weight: FiniteFloat
    files: dict[str, FileEntry] = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A state with the identifiers of its rows."""

    description: Description
    state: TrainingState
    """Its rows are those of `users` and `videos`."""
    users: NDArray[np.bytes_]
    """Identifiers of the users that were learnt of, ascending."""
    videos: NDArray[np.bytes_]
    """The same of videos."""

    @classmethod
    def of(cls, description: Description, state: TrainingState, users: IdMap, videos: IdMap) -> "Checkpoint":
        """Return a state, in the rows of all users and videos of a run, as a checkpoint."""
        return cls(
            description=description, state=state, users=users.array[state.users], videos=videos.array[state.videos]
        )

    def named(self, version: str) -> "Checkpoint":
        """Return the checkpoint of a published version."""
        return replace(self, description=self.description.model_copy(update={"version": version}))

    def after_full_fit(self, until: datetime) -> "Checkpoint":
        """Return the checkpoint of a full fit up to an instant, which is not due again soon."""
        return replace(self, description=self.description.model_copy(update={"full_fit_until": until}))

    def state_in(self, users: IdMap, videos: IdMap) -> TrainingState:
        """Return a copy of the state in the rows of these users and videos, without others."""
        rows = {"user": _rows(users, self.users), "item": _rows(videos, self.videos)}
        kept = {side: found != UNKNOWN for side, found in rows.items()}
        return TrainingState(
            users=rows["user"][kept["user"]].astype(np.int32),
            videos=rows["item"][kept["item"]].astype(np.int32),
            arrays={name: array[kept[name.partition("_")[0]]] for name, array in self.state.arrays.items()},
            random=self.state.random,
        )


def write(checkpoint: Checkpoint, folder: Path) -> Description:
    """Write into an empty folder, the manifest last, and return the description with its files."""
    entries = write_arrays(_arrays(checkpoint), folder)
    description = checkpoint.description.model_copy(update={"files": entries})
    (folder / MANIFEST).write_text(description.model_dump_json(indent=2), encoding="utf-8")
    return description


def read_description(data: bytes) -> Description:
    """Return a manifest; CheckpointError for an invalid one, or one of an unknown layout."""
    try:
        description = Description.model_validate_json(data)
    except ValidationError as error:
        raise CheckpointError(f"{MANIFEST} is not valid: {error.errors()[0]['msg']}") from None
    if description.format != FORMAT:
        raise CheckpointError(f"its format is {description.format}, not {FORMAT}")
    if description.files.keys() != {f"{name}.npy" for name in ("users", "videos", "random", *LEARNT)}:
        raise CheckpointError(f"{MANIFEST} does not name the files of a checkpoint")
    return description


def read(folder: Path) -> Checkpoint:
    """Return the checkpoint in a folder, its arrays mapped; CheckpointError when a checksum differs."""
    try:
        description = read_description((folder / MANIFEST).read_bytes())
        arrays = {name.removesuffix(".npy"): _load(folder / name, entry) for name, entry in description.files.items()}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot be read: {error}") from None
    users, videos = arrays.pop("users"), arrays.pop("videos")
    random = np.array(arrays.pop("random"))
    state = TrainingState(
        users=np.arange(len(users), dtype=np.int32),
        videos=np.arange(len(videos), dtype=np.int32),
        arrays=arrays,
        random=random,
    )
    checkpoint = Checkpoint(description=description, state=state, users=users, videos=videos)
    _check(checkpoint)
    return checkpoint


def _arrays(checkpoint: Checkpoint) -> Iterator[tuple[str, NDArray[Any]]]:
    yield "users", checkpoint.users
    yield "videos", checkpoint.videos
    yield "random", checkpoint.state.random
    yield from checkpoint.state.arrays.items()


def _load(path: Path, entry: FileEntry) -> NDArray[Any]:
    if path.stat().st_size != entry.size or digest(path) != entry.sha256:
        raise CheckpointError(f"{path.name} is not what was written")
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _check(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError when the arrays do not fit together, or hold numbers that no fit should resume from."""
    counts = {"user": len(checkpoint.users), "item": len(checkpoint.videos)}
    for name, array in checkpoint.state.arrays.items():
        count = counts[name.partition("_")[0]]
        shape = (count, checkpoint.description.factors) if "embedding" in name else (count,)
        if array.shape != shape or array.dtype != np.float32:
            raise CheckpointError(f"{name} is {array.dtype} {array.shape}, not float32 {shape}")
        if not np.isfinite(array).all():
            raise CheckpointError(f"{name} holds numbers that are not finite")
    if checkpoint.state.random.shape != (625,) or checkpoint.state.random.dtype != np.uint32:
        raise CheckpointError("random is no state of a Mersenne twister")


def _rows(known: IdMap, wanted: NDArray[np.bytes_]) -> NDArray[np.int64]:
    """Return the row of each identifier, UNKNOWN if it is missing."""
    if not len(known):
        return np.full(len(wanted), UNKNOWN, np.int64)
    places = np.minimum(np.searchsorted(known.array, wanted), len(known) - 1)
    return np.where(known.array[places] == wanted, places, UNKNOWN)
