"""Proposes candidates of the highest inner product from quantised copies of the videos' representations."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from modelstore.artefact import map_array

HEAD: Final = 5_120
"""Videos of the highest static score, which are left to a scan."""
RISEN: Final = 2_048
"""Videos whose static score rose most since the lists were made, which are left to it as well."""
TRAINING: Final = 64
"""Videos a list or code of the quantisers is trained on."""
_Depth: Final[Any] = faiss.IVFSearchParameters  # its constructor is not in its stubs
_ONE: Final = np.ones(1, np.float32)
_QUANTISERS: Final = "quantisers.faiss"
_LISTS: Final = "lists.bin"
_UNLISTED: Final = "unlisted.npy"
_ROW_BYTES: Final = 8
_BLOCK: Final = 32
"""Videos whose codes stand together in the order in which registers read them."""
_ALIGNMENT: Final = 64
"""Bytes to which lists are aligned, as wide registers need it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InvertedFile:
    """A FAISS index of most videos, with their static scores as a further dimension."""

    index: Any
    static: NDArray[np.float32]
    """(V,) the static scores that it knows."""
    unlisted: NDArray[np.int64]
    """Rows of the videos that it does not hold, ascending."""

    @classmethod
    def built(cls, factors: NDArray[np.float32], static: NDArray[np.float32]) -> "InvertedFile":
        """Build the index, on one core; about 7 s for a million videos of 64 dimensions.

        Args:
            factors: (V, d).
            static: (V,).
        """
        faiss.omp_set_num_threads(1)
        unlisted = _highest(static, HEAD)
        rows = np.setdiff1d(np.arange(len(static)), unlisted, assume_unique=True)
        return cls(index=_trained(_augmented(factors[rows], static[rows]), rows), static=static, unlisted=unlisted)

    @classmethod
    def read(cls, folder: Path, static: NDArray[np.float32]) -> "InvertedFile":
        """Map the lists that `write` left; processes that do so share one copy of them.

        Args:
            folder: Where they stand.
            static: (V,) the static scores that they were built with.
        """
        index: Any = faiss.deserialize_index(np.fromfile(folder / _QUANTISERS, np.uint8), faiss.IO_FLAG_SKIP_IVF_DATA)
        lists: Any = faiss.downcast_InvertedLists(index.invlists)
        lists.filename, lists.read_only = str(folder / _LISTS), True
        lists.prefetch_nthread = 0  # else each search starts threads that wait for a slow disk
        lists.do_mmap()
        return cls(index=index, static=static, unlisted=map_array(folder / _UNLISTED))

    def write(self, folder: Path) -> None:
        """Write the index's files into a folder.

        FAISS maps lists of its own layout only, but for the codes within a list, which it takes as they are: so they
        are laid out as blocks, as they stand in memory.
        """
        lists: Any = faiss.downcast_InvertedLists(self.index.invlists)
        laid_out: Any = faiss.OnDiskInvertedLists(lists.nlist, self.index.code_size, _LISTS)
        with (folder / _LISTS).open("wb") as file:
            _lay_out(lists, laid_out, file)
        self.index.own_invlists = False
        self.index.replace_invlists(laid_out, False)  # noqa: FBT003  # whether the index frees them; takes no keyword
        try:
            faiss.serialize_index(self.index).tofile(folder / _QUANTISERS)
        finally:
            self.index.replace_invlists(lists, True)  # noqa: FBT003
        np.save(folder / _UNLISTED, self.unlisted)

    def search(self, vector: NDArray[np.float32], count: int, *, depth: int) -> NDArray[np.int64]:
        """Return the rows of `count` candidates in no particular order; -1 for each that `depth` lists do not hold.

        Args:
            vector: (d,).
            count: Candidates.
            depth: Lists to read.
        """
        params = _Depth(nprobe=depth)
        rows: NDArray[np.int64] = self.index.search(_augmented(vector[None], _ONE), count, params=params)[1][0]
        return rows

    def beside(self, static: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the rows to scan beside the index under a fresher static score, (V,), ascending."""
        if static is self.static:
            return self.unlisted
        rise = static - self.static
        risen = _highest(rise, RISEN)
        return np.union1d(np.union1d(self.unlisted, _highest(static, HEAD)), risen)


def _augmented(vectors: NDArray[np.float32], last: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the vectors with one more dimension, and with a zero one where the number would be odd."""
    count, dimensions = vectors.shape
    points = np.zeros((count, dimensions + 2 - dimensions % 2), np.float32)
    points[:, :dimensions] = vectors
    points[:, dimensions] = last
    return points


def _trained(points: NDArray[np.float32], rows: NDArray[np.int64]) -> Any:
    count, dimensions = points.shape
    lists = 1 << round(np.log2(count) / 2)
    index: Any = faiss.IndexIVFPQFastScan(
        faiss.IndexFlatIP(dimensions), dimensions, lists, dimensions // 2, 4, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.niter, index.cp.max_points_per_centroid = 8, TRAINING
    sample = np.random.default_rng(0).choice(count, min(count, TRAINING * lists), replace=False)
    index.train(points[np.sort(sample)])
    index.add_with_ids(points, rows)
    return index


def _lay_out(lists: Any, laid_out: Any, file: BinaryIO) -> None:
    """Write the lists, each as its codes and then its rows, and record their places."""
    laid_out.lists.clear()
    for number in range(lists.nlist):
        size = lists.list_size(number)
        place = faiss.OnDiskOneList()
        place.size, place.capacity, place.offset = size, -(-size // _BLOCK) * _BLOCK, file.tell()
        laid_out.lists.push_back(place)
        if size:
            file.write(faiss.rev_swig_ptr(lists.get_codes(number), place.capacity * laid_out.code_size).tobytes())
            file.write(faiss.rev_swig_ptr(lists.get_ids(number), size).tobytes())
            file.write(bytes((place.capacity - size) * _ROW_BYTES))
        file.write(bytes(-file.tell() % _ALIGNMENT))
    laid_out.totsize = file.tell()


def _highest(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the rows of the highest scores, ascending."""
    size = min(count, len(scores))
    rows: NDArray[np.int64] = np.sort(np.argpartition(-scores, size - 1)[:size])
    return rows
