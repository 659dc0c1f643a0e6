"""Writes and reads a trained model on disk: a folder of `.npy` files, and `manifest.json`, written last.

Nothing in it is a pickle, and nothing is copied on load: arrays are memory-mapped, so that all processes of a machine
share one copy. Every file's size and SHA-256 stand in the manifest.

Shapes: U users, V videos, d dimensions. Rows follow the sorted identifiers of `IdMap`.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveFloat,
    ValidationError,
)

from modelstore.artefact_arrays import Arrays, map_array
from modelstore.artefact_error import ArtefactError
from modelstore.id_map import IdMap
from modelstore.model_numbers import numbers_problem
from modelstore.row_lists import RowLists

__all__ = ["ArtefactError", "RowLists", "map_array"]  # from here, too: parts of what an artefact is

FORMAT: Final = 1
"""Version of this layout: raise it when the files are others, or mean something else.

A reader refuses what it does not know; it reads every version ever written.
"""

MANIFEST: Final = "manifest.json"
MAX_MANIFEST_BYTES: Final = 16 * 2**20
MAX_YEAR: Final = 9998


def _of_our_time(moment: datetime) -> datetime:
    try:
        year = moment.astimezone(UTC).year
    except OverflowError:
        year = 0
    if not 1970 <= year <= MAX_YEAR:
        raise ValueError(f"is not of the years 1970 to {MAX_YEAR}")
    return moment


Count: TypeAlias = Annotated[int, Field(ge=0, le=2**53)]
Instant: TypeAlias = Annotated[AwareDatetime, AfterValidator(_of_our_time)]
FileName: TypeAlias = Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,127}$")]
"""No path: what an artefact names stays in its folder."""


class FileEntry(BaseModel):
    """Size and digest of a file."""

    model_config = ConfigDict(frozen=True)

    size: NonNegativeInt
    sha256: str


class Manifest(BaseModel):
    """Description of a model and of its files."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    version: str
    """Name of the model; names sort by age."""
    algorithm: Annotated[str, Field(max_length=256)]
    trained_at: Instant
    data_until: Instant
    """The first instant (UTC) that the training data does not cover."""
    interaction_count: Count
    user_count: Count
    video_count: Count
    dimensions: Count
    popularity_weight: FiniteFloat = 0.0
    """Weight of the log of popularity in the ranking score; 0 is plain LightFM."""
    popularity_floor: PositiveFloat = 1.0
    """Added to popularity before the logarithm, so that unwatched videos have one."""
    popularity_half_life_s: Annotated[float, Field(ge=1, le=1e10)] = 86_400.0
    """Seconds in which an interaction halves in its part of a video's popularity."""
    metrics: dict[str, FiniteFloat] = {}
    parent: str | None = None
    """The version that was live when this one was trained."""
    files: dict[FileName, FileEntry] = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalogue:
    """Attributes of each video besides its representation."""

    authors: IdMap
    author_rows: NDArray[np.int32]
    """(V,) row in `authors`; -1 where unknown."""
    tags: IdMap
    tag_rows: RowLists
    """Rows in `tags`, one list a video."""
    durations_ms: NDArray[np.int64]
    """(V,); -1 where unknown."""
    published_at_ms: NDArray[np.int64]
    """(V,) milliseconds since 1970 UTC; -1 where unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A trained model: exported LightFM representations, and the other arrays that serving needs."""

    manifest: Manifest
    users: IdMap
    videos: IdMap
    user_factors: NDArray[np.float32]
    """(U, d)."""
    user_biases: NDArray[np.float32]
    """(U,)."""
    video_factors: NDArray[np.float32]
    """(V, d)."""
    video_biases: NDArray[np.float32]
    """(V,)."""
    popularity: NDArray[np.float32]
    """(V,) time-decayed weighted count of interactions, not negative."""
    seen: RowLists
    """Rows of the videos that each user was shown, ascending; U lists."""
    catalogue: Catalogue
    folder: Path | None = None
    """Of its local copy, where what is computed from it may be kept; None to keep nothing."""

    def prior(self) -> NDArray[np.float32]:
        """Return the popularity part of the ranking score, (V,) float32."""
        weight = np.float32(self.manifest.popularity_weight)
        prior: NDArray[np.float32] = weight * np.log(self.popularity + np.float32(self.manifest.popularity_floor))
        return prior

    def lightfm_scores(self, user_row: int) -> NDArray[np.float32]:
        """Return what `LightFM.predict` gives for the user and every video, (V,) float32."""
        scores: NDArray[np.float32] = self.video_factors @ self.user_factors[user_row]
        scores += self.video_biases
        scores += self.user_biases[user_row]
        return scores


def write(model: Model, folder: Path) -> Manifest:
    """Write the model into an empty folder, the manifest last, and return the manifest with its files."""
    manifest = model.manifest.model_copy(update={"files": write_arrays(_arrays(model), folder)})
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
    return manifest


def read_manifest(data: bytes) -> Manifest:
    """Return a manifest; ArtefactError when this code cannot read it."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise ArtefactError("manifest", f"manifest.json has {len(data)} bytes, at most {MAX_MANIFEST_BYTES} are read")
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        raise ArtefactError("manifest", f"manifest.json is not valid: {error.errors()[0]['msg']}") from None
    if manifest.format != FORMAT:
        raise ArtefactError("format", f"format {manifest.format} is not known, only up to {FORMAT}")
    return manifest


def read(folder: Path, *, checked: bool = False) -> Model:
    """Return the model in a folder after checking files, shapes and numbers; ArtefactError when anything is wrong.

    Args:
        folder: Of its files.
        checked: The files and their contents were checked before, so that to map them is enough.
    """
    try:
        manifest = read_manifest((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise ArtefactError("manifest", f"{MANIFEST} is missing") from None
    if not checked:
        for name, entry in manifest.files.items():
            _check_file(folder / name, entry)
    arrays = Arrays(folder, manifest.files, checked=checked)
    users, videos = manifest.user_count, manifest.video_count
    authors, tags = IdMap(arrays.ids("authors")), IdMap(arrays.ids("tags"))
    model = Model(
        manifest=manifest,
        users=IdMap(arrays.ids("users", users)),
        videos=IdMap(arrays.ids("videos", videos)),
        user_factors=arrays.floats("user_factors", users, manifest.dimensions),
        user_biases=arrays.floats("user_biases", users),
        video_factors=arrays.floats("video_factors", videos, manifest.dimensions),
        video_biases=arrays.floats("video_biases", videos),
        popularity=arrays.floats("popularity", videos),
        seen=arrays.row_lists("seen", users, videos),
        catalogue=Catalogue(
            authors=authors,
            author_rows=arrays.rows("author_rows", len(authors), count=videos),
            tags=tags,
            tag_rows=arrays.row_lists("tag", videos, len(tags)),
            durations_ms=arrays.integers("durations_ms", videos),
            published_at_ms=arrays.integers("published_at_ms", videos),
        ),
    )
    if not checked:
        check_numbers(model)
    return model


def check_numbers(model: Model) -> None:
    """Raise ArtefactError unless pages can be ranked by a model's numbers."""
    if not len(model.videos):
        raise ArtefactError("empty", "the model has no videos")
    if problem := numbers_problem(model):
        raise ArtefactError("content", problem)


def write_arrays(arrays: Iterable[tuple[str, NDArray[Any]]], folder: Path) -> dict[str, FileEntry]:
    """Write named arrays as `<name>.npy` into an empty folder, and return the files' sizes and digests."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = {}
    for name, array in arrays:
        path = folder / f"{name}.npy"
        try:
            np.save(path, np.ascontiguousarray(array), allow_pickle=False)
        except OSError as error:  # which does not say where the disk is full
            raise OSError(f"{path} cannot be written: {error}") from error
        entries[path.name] = FileEntry(size=path.stat().st_size, sha256=digest(path))
    return entries


def digest(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _arrays(model: Model) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield names and arrays, in the order in which they are written."""
    plain = ("user_factors", "user_biases", "video_factors", "video_biases", "popularity")
    yield "users", model.users.array
    yield "videos", model.videos.array
    for name in plain:
        yield name, getattr(model, name)
    catalogue = model.catalogue
    for name, lists in (("seen", model.seen), ("tag", catalogue.tag_rows)):
        yield f"{name}_offsets", lists.offsets
        yield f"{name}_rows", lists.rows
    yield "authors", catalogue.authors.array
    yield "author_rows", catalogue.author_rows
    yield "tags", catalogue.tags.array
    yield "durations_ms", catalogue.durations_ms
    yield "published_at_ms", catalogue.published_at_ms


def _check_file(path: Path, entry: FileEntry) -> None:
    if not path.is_file():
        raise ArtefactError("missing", f"{path.name} is missing")
    size = path.stat().st_size
    if size != entry.size:
        raise ArtefactError("size", f"{path.name} has {size} bytes instead of {entry.size}")
    if digest(path) != entry.sha256:
        raise ArtefactError("checksum", f"{path.name} does not match its checksum")
