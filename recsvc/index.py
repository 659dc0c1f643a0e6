"""The best videos for a viewer out of very many, by an approximate index whose candidates are scored exactly.

A FAISS inverted file with product-quantised residuals (Jégou et al. 2011, its tables in registers: André et al. 2015)
proposes candidates from a few of its lists. The static score stands in an added dimension. The videos of the highest
static score are scanned beside it, since an inverted file alone loses the most popular. All candidates are scored and
ordered as by the exact scan, which also answers where a filter leaves few videos.
"""

from collections.abc import Sequence
from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from recsvc.ranking import Barred, ExactRanker, Ranked, Ranker, Wish, candidate_rows
from recsvc.viewers import Viewer, ViewerState

FROM: Final = 50_000
"""Videos from which the index is faster than the scan (`benchmarks/retrieval.py`)."""
HEAD: Final = 8_192
"""Videos of the highest static score that are all scanned."""
DEPTHS: Final = (8, 16, 32, 48, 64, 96, 128)
"""Lists to read; the first depth of enough recall is taken."""
RECALL: Final = 0.99
"""Recall at 20 that a depth must reach on the sample; where none does, the scan serves."""
PAGE: Final = 20
SAMPLE: Final = 200
"""Viewers on whom recall is measured."""
_TRAINING: Final = 64
"""Videos a list or code of the quantisers is trained on."""
_MORE: Final = 200
"""Candidates proposed beyond what is wanted, since their quantised scores are rough."""
_FURTHEST: Final = 2_048
"""Videos wanted after which the scan is cheaper."""


def ranker_of(exact: ExactRanker, users: NDArray[np.float32]) -> Ranker:
    """Return the faster ranker of sufficient recall.

    Args:
        exact: The scan.
        users: (U, d) representations of viewers to measure recall on.
    """
    if len(exact.static) < FROM or not len(users):
        return exact
    index = IndexedRanker.built(exact)
    index.tune(users[np.linspace(0, len(users) - 1, min(SAMPLE, len(users)), dtype=np.int64)])
    return index if index.recall >= RECALL else exact


class IndexedRanker:
    """Ranks by candidates of an index.

    Args:
        exact: The scan of the same videos.
        lists: The inverted file.
        unlisted: Rows of the videos that it does not hold.
        depth: Lists to read.
        recall: Share of the best 20 that are found, as measured.
    """

    def __init__(
        self, exact: ExactRanker, lists: Any, unlisted: NDArray[np.int64], *, depth: int, recall: float
    ) -> None:
        self._exact = exact
        self._lists = lists
        self._unlisted = unlisted
        # What has become popular since the lists were made stands in both.
        self._head_rows = np.union1d(unlisted, _highest(exact.static))
        self._head = ExactRanker(exact.factors[self._head_rows], exact.static[self._head_rows])
        self.depth = depth
        self.recall = recall

    @classmethod
    def built(cls, exact: ExactRanker) -> "IndexedRanker":
        """Build the index, on one core; about 7 s for a million videos of 64 dimensions."""
        faiss.omp_set_num_threads(1)
        unlisted = _highest(exact.static)
        rows = np.setdiff1d(np.arange(len(exact.static)), unlisted, assume_unique=True)
        lists = _inverted_file(_augmented(exact.factors[rows], exact.static[rows]), rows)
        return cls(exact, lists, unlisted, depth=DEPTHS[-1], recall=0.0)

    def with_static(self, static: NDArray[np.float32]) -> "IndexedRanker":
        """Return a ranker of the same videos with another static part of their scores.

        The lists keep the old one for the choice of candidates; the head follows, so what has become popular is found.
        """
        exact = self._exact.with_static(static)
        return IndexedRanker(exact, self._lists, self._unlisted, depth=self.depth, recall=self.recall)

    def tune(self, users: NDArray[np.float32]) -> None:
        """Choose how many lists to read, and measure recall against the scan.

        Args:
            users: (n, d) representations of a sample of viewers.
        """
        viewers = [Viewer(state=ViewerState.TRAINED, vector=one, bias=0.0, seen=_NONE) for one in users]
        best = [set(self._exact.top(viewer, PAGE, Barred()).rows.tolist()) for viewer in viewers]
        for depth in DEPTHS:
            self.depth = depth
            found = [self.top(viewer, PAGE, Barred()).rows.tolist() for viewer in viewers]
            hits = [len(one & set(rows)) / len(one) for one, rows in zip(best, found, strict=True)]
            self.recall = float(np.mean(hits))
            if self.recall >= RECALL:
                return

    def scores(self, viewer: Viewer) -> NDArray[np.float32]:
        """Return the score of every video without the viewer's bias, (V,) float32, exact but for rounding."""
        return self._exact.scores(viewer)

    def scores_of(self, viewer: Viewer, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the scores of some videos, (len(rows),) float32."""
        return self._exact.scores_of(viewer, rows)

    def top_many(self, wishes: Sequence[Wish]) -> list[Ranked]:
        """Return what `top` returns for each."""
        return [self.top(wish.viewer, wish.count, wish.barred) for wish in wishes]

    def top(self, viewer: Viewer, count: int, barred: Barred) -> Ranked:
        """Return the best `count` videos that are not barred, but for what the index misses; never fewer."""
        if viewer.vector is None:
            return self._exact.top(viewer, count, barred)
        share = 1.0 if barred.mask is None else 1 - float(np.count_nonzero(barred.mask)) / len(barred.mask)
        # What is barred may all stand first.
        wanted = (count + sum(map(len, barred.rows))) / max(share, 1e-9)
        while wanted <= _FURTHEST:
            rows = self._allowed(self._candidates(viewer, viewer.vector, round(wanted)), barred)
            if len(rows) >= count:
                return self._exact.best_of(viewer, rows, count)
            wanted *= 4
        return self._exact.top(viewer, count, barred)

    def _candidates(self, viewer: Viewer, vector: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Return proposed rows, ascending, without repeats; the best `count` are among them."""
        depth = _Depth(nprobe=self.depth)
        _, listed = self._lists.search(_augmented(vector[None], _ONE), 2 * count + _MORE, params=depth)
        places = candidate_rows(self._head.scores(viewer), min(count, len(self._head_rows)))
        found: NDArray[np.int64] = np.sort(np.concatenate((listed[0], self._head_rows[places])))
        fresh = found >= 0  # the lists read may hold too few
        fresh[1:] &= found[1:] != found[:-1]
        return found[fresh]

    @staticmethod
    def _allowed(rows: NDArray[np.int64], barred: Barred) -> NDArray[np.int64]:
        allowed = np.ones(len(rows), np.bool_) if barred.mask is None else ~barred.mask[rows]
        for further in barred.rows:
            if len(further):
                places = np.searchsorted(rows, further)
                places[places == len(rows)] = 0
                allowed[places[rows[places] == further]] = False
        left: NDArray[np.int64] = rows[allowed]
        return left


def _augmented(vectors: NDArray[np.float32], last: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the vectors with one dimension more, and another one of zeros where their number would be odd."""
    count, dimensions = vectors.shape
    points = np.zeros((count, dimensions + 2 - dimensions % 2), np.float32)
    points[:, :dimensions] = vectors
    points[:, dimensions] = last
    return points


def _inverted_file(points: NDArray[np.float32], rows: NDArray[np.int64]) -> Any:
    count, dimensions = points.shape
    lists = 1 << round(np.log2(count) / 2)
    index: Any = faiss.IndexIVFPQFastScan(
        faiss.IndexFlatIP(dimensions), dimensions, lists, dimensions // 2, 4, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.niter, index.cp.max_points_per_centroid = 8, _TRAINING
    sample = np.random.default_rng(0).choice(count, min(count, _TRAINING * lists), replace=False)
    index.train(points[np.sort(sample)])
    index.add_with_ids(points, rows)
    return index


def _highest(static: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the rows of the highest static scores, ascending."""
    size = min(HEAD, len(static))
    rows: NDArray[np.int64] = np.sort(np.argpartition(-static, size - 1)[:size])
    return rows


_Depth: Final[Any] = faiss.IVFSearchParameters  # its constructor is not in its stubs
_ONE: Final = np.ones(1, np.float32)
_NONE: Final = np.empty(0, np.int32)
