"""Computes arrays from a model once, and shares them between the processes of a machine."""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from modelstore.artefact import ArtefactError, Model, map_array
from recsvc.local_files.derived_files import DerivedFiles
from recsvc.model.fold_in import scale_of
from recsvc.ranking.video_fingerprints import fingerprints_of
from recsvc.wire_format import heads_of
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb

FORMAT: Final = 1
"""Of the arrays and of what they mean: raise it when the code makes others of a model, or writes them otherwise."""
FOLDER: Final = "derived"
"""Folder of the arrays within that of the model's local copy."""
MADE_WITH: Final = (np.__version__, hashlib.sha256(pb.DESCRIPTOR.serialized_pb).hexdigest())
"""What the arrays depend on besides: heads are bytes of the reply's message."""


class DerivedArrays(NamedTuple):
    """Arrays of one model with V videos."""

    fingerprints: NDArray[np.uint32]
    """(V,); see `Fingerprints`."""
    by_fingerprint: NDArray[np.int32]
    """(V,) rows in the order of their fingerprints."""
    heads: NDArray[np.bytes_]
    """(V,) the first bytes of each video's entry in a reply; see `wire_format`."""
    lengths: NDArray[np.float32]
    """(V,) lengths of the videos' factors."""
    fold_in_scale: NDArray[np.float64]
    """(); see `FoldIn`."""

    @classmethod
    def of(cls, model: Model) -> Self:
        """Return the arrays kept beside the model's local copy; else compute them, and keep them if there is a copy."""
        compute = partial(cls.computed, model)
        if model.folder is None:
            return compute()
        kept = DerivedFiles(model.folder, FOLDER, model.manifest, (FORMAT, *MADE_WITH))
        return kept.obtain(partial(cls.read, videos=len(model.videos)), compute, cls.write)

    @classmethod
    def computed(cls, model: Model) -> Self:
        """Compute the arrays from a model."""
        fingerprints = fingerprints_of(model.videos)
        factors = model.video_factors
        return cls(
            fingerprints=fingerprints,
            by_fingerprint=np.argsort(fingerprints, kind="stable").astype(np.int32),
            heads=heads_of(model.videos),
            lengths=np.sqrt(np.einsum("ij,ij->i", factors, factors)),
            fold_in_scale=np.array(scale_of(model)),
        )

    @classmethod
    def read(cls, folder: Path, videos: int) -> Self:
        """Return the arrays that `write` left, mapped; ArtefactError when they are not those of so many videos."""
        found = cls(*(map_array(folder / f"{name}.npy") for name in cls._fields))
        kinds = [(one.dtype.kind, one.shape) for one in found]
        if kinds != [*((kind, (videos,)) for kind in "uiSf"), ("f", ())]:
            raise ArtefactError("content", "the arrays are not those of the model")
        return found

    def write(self, folder: Path) -> None:
        """Write the arrays."""
        arrays: dict[str, NDArray[Any]] = self._asdict()
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
