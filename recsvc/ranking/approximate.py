"""Finds the best videos for a user out of very many: an approximate index proposes, exact scores decide.

A FAISS inverted file with product-quantised residuals (Jégou et al. 2011, its tables in registers: André et al. 2015)
proposes candidates from a few of its lists. The static score stands in an added dimension. The videos of the highest
static score are scanned beside it, since an inverted file alone loses the most popular. All candidates are scored and
ordered as by the exact scan, which also answers where a filter leaves few videos.

A fresher static score is known to the scan beside the lists and to the final scores at once. The lists keep the one
that they were made with; as it grows old, recall is measured again, and where it suffers they are made anew.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from modelstore.artefact import Manifest, map_array
from recsvc.domain.user import User, UserState
from recsvc.local_files.derived_files import DerivedFiles
from recsvc.ranking.exact import ExactRanker, Exclusions, Ranked, Ranker, RankingQuery, candidate_rows
from recsvc.ranking.inverted_file import HEAD, TRAINING, InvertedFile

FROM: Final = 50_000
"""Videos from which the index is faster than the scan (`benchmarks/recsvc/retrieval.py`)."""
DEPTHS: Final = (8, 16, 32, 64, 128)
"""Lists to read."""
SPARES: Final = (80, 200, 600, 1_800)
"""Candidates proposed beyond what is wanted, since their quantised scores are rough."""
GAIN: Final = 0.002
"""Recall that twice as many lists must bring; else more candidates are proposed from fewer lists."""
RECALL: Final = 0.99
"""Recall at 20 that must be reached on the sample with the least effort; where none does, the scan serves."""
PAGE: Final = 20
SAMPLE: Final = 200
"""Users on whom recall is measured."""
DRIFT: Final = 0.02
"""Change of the static scores, as a share of their spread, after which recall is measured again."""
TOGETHER: Final = 8
"""Users of the sample who share one scan."""
FORMAT: Final = 2
"""Of the files and of the way in which they are made: raise it when either changes."""
FOLDER: Final = "index"
"""Folder of the index within that of the model's local copy."""
_TUNING: Final = "tuning.npy"
_FURTHEST: Final = 2_048
"""Videos wanted after which the scan is cheaper."""


class SearchEffort(NamedTuple):
    """Parameters of a search: lists to visit, and candidates to score."""

    depth: int
    """Lists to read."""
    spare: int
    """Candidates beyond twice what is wanted."""


EFFORTS: Final = tuple(SearchEffort(depth, spare) for spare in SPARES for depth in DEPTHS)


def ranker_of(exact: ExactRanker, users: NDArray[np.float32], kept: DerivedFiles | None = None) -> Ranker:
    """Return the faster ranker of sufficient recall.

    Args:
        exact: The scan.
        users: (U, d) representations of users to measure recall on; those of zeros are passed over.
        kept: Where the index is kept; None to build one for this process alone.
    """
    if len(exact.static) < FROM:
        return exact
    known = np.flatnonzero(users.any(axis=1))
    if not len(known):
        return exact
    sample = users[known[np.linspace(0, len(known) - 1, min(SAMPLE, len(known)), dtype=np.int64)]]
    build = partial(IndexedRanker.tuned, exact, sample)
    index = kept.obtain(partial(IndexedRanker.read, exact, sample), build, IndexedRanker.write) if kept else build()
    return _sufficient(exact, index)


def kept_index(folder: Path, manifest: Manifest) -> DerivedFiles:
    """Return the derived files of an index, beside the model's local copy."""
    parameters = (FORMAT, faiss.__version__, HEAD, TRAINING, DEPTHS, SPARES, GAIN, RECALL, PAGE, SAMPLE)
    return DerivedFiles(folder, FOLDER, manifest, parameters)


def _sufficient(exact: ExactRanker, index: "IndexedRanker") -> Ranker:
    return index if index.recall >= RECALL else exact


class IndexedRanker:
    """Ranks the candidates of an index by exact scores.

    Args:
        exact: The scan of the same videos.
        lists: The inverted file.
        effort: What a search takes.
        recall: Share of the best 20 that are found, as measured.
        sample: (n, d) representations of users that it is measured on.
        measured: (V,) the static scores that it was measured with.
    """

    def __init__(
        self,
        exact: ExactRanker,
        lists: InvertedFile,
        *,
        effort: SearchEffort,
        recall: float,
        sample: NDArray[np.float32],
        measured: NDArray[np.float32],
    ) -> None:
        self._exact = exact
        self._lists = lists
        self._head_rows = lists.beside(exact.static)
        self._head = ExactRanker(exact.factors[self._head_rows], exact.static[self._head_rows])
        rest = np.ones(len(exact.static), np.bool_)
        rest[self._head_rows] = False
        self._highest_beside = exact.static.max(where=rest, initial=-np.inf)
        self._sample = sample
        self._measured = measured
        self.effort = effort
        self.recall = recall

    @classmethod
    def read(cls, exact: ExactRanker, sample: NDArray[np.float32], folder: Path) -> "IndexedRanker":
        """Return the index that `write` left, mapped.

        Args:
            exact: The scan of the videos.
            sample: (n, d) what it was tuned with.
            folder: Of its files.
        """
        recall, depth, spare = map_array(folder / _TUNING).tolist()
        lists, effort = InvertedFile.read(folder, exact.static), SearchEffort(int(depth), int(spare))
        return cls(exact, lists, effort=effort, recall=recall, sample=sample, measured=exact.static)

    def write(self, folder: Path) -> None:
        """Write the index for other processes, and for the next start of this one."""
        np.save(folder / _TUNING, np.array([self.recall, *self.effort]))
        self._lists.write(folder)

    @classmethod
    def tuned(cls, exact: ExactRanker, sample: NDArray[np.float32]) -> "IndexedRanker":
        """Build the index and tune it.

        Args:
            exact: The scan of the videos.
            sample: (n, d) representations of users.
        """
        index = cls.built(exact)
        index.tune(sample)
        return index

    @classmethod
    def built(cls, exact: ExactRanker) -> "IndexedRanker":
        """Build the index; `tune` makes it fit to serve."""
        none = np.empty((0, exact.factors.shape[1]), np.float32)
        lists = InvertedFile.built(exact.factors, exact.static)
        return cls(exact, lists, effort=EFFORTS[0], recall=0.0, sample=none, measured=exact.static)

    def with_static(self, static: NDArray[np.float32]) -> Ranker:
        """Return a ranker of the same videos with another static part of their scores."""
        exact = self._exact.with_static(static)
        fresh = IndexedRanker(
            exact, self._lists, effort=self.effort, recall=self.recall, sample=self._sample, measured=self._measured
        )
        if _drift(self._measured, static) <= DRIFT:
            return fresh
        fresh.tune(self._sample)
        if fresh.recall >= RECALL:
            return fresh
        return _sufficient(exact, IndexedRanker.tuned(exact, self._sample))

    def tune(self, sample: NDArray[np.float32]) -> None:
        """Raise the effort as far as recall needs, and measure it against the scan.

        Args:
            sample: (n, d) representations of users.
        """
        self._sample, self._measured = sample, self._exact.static
        users = [User(state=UserState.TRAINED, vector=one, bias=0.0, seen=_NONE) for one in sample]
        best = [set(ranked.rows.tolist()) for ranked in _scanned(self._exact, users)]
        useless = -1
        for effort in EFFORTS[EFFORTS.index(self.effort) :]:
            if effort.spare == useless:
                continue
            before, self.effort = self.recall, effort
            found = [self.top(user, PAGE, Exclusions()).rows.tolist() for user in users]
            hits = [len(one & set(rows)) / len(one) for one, rows in zip(best, found, strict=True)]
            self.recall = float(np.mean(hits))
            if self.recall >= RECALL:
                return
            if effort.depth != DEPTHS[0] and self.recall < before + GAIN:
                useless = effort.spare

    def scores(self, user: User) -> NDArray[np.float32]:
        """Return the score of every video without the user's bias, (V,) float32, exact but for rounding."""
        return self._exact.scores(user)

    def scores_of(self, user: User, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the scores of some videos, (len(rows),) float32."""
        return self._exact.scores_of(user, rows)

    def top_many(self, wishes: Sequence[RankingQuery]) -> list[Ranked]:
        """Return the result of `top` for each query."""
        return [self.top(wish.user, wish.count, wish.barred) for wish in wishes]

    def top(self, user: User, count: int, barred: Exclusions) -> Ranked:
        """Return the best `count` videos that are not barred, except those that the index misses; never fewer."""
        if user.vector is None:
            return self._popular(user, count, barred)
        share = 1.0 if barred.mask is None else 1 - float(np.count_nonzero(barred.mask)) / len(barred.mask)
        # What is barred may all stand first.
        wanted = (count + sum(map(len, barred.rows))) / max(share, 1e-9)
        while wanted <= _FURTHEST:
            rows = self._allowed(self._candidates(user, user.vector, round(wanted)), barred)
            if len(rows) >= count:
                return self._exact.best_of(user, rows, count)
            wanted *= 4
        return self._exact.top(user, count, barred)

    def _popular(self, user: User, count: int, barred: Exclusions) -> Ranked:
        """Return the result of a scan: the best videos for strangers are among those of the highest static score."""
        rows = self._allowed(self._head_rows, barred)
        if len(rows) >= count:
            ranked = self._exact.best_of(user, rows, count)
            if self._exact.static[ranked.rows[-1]] > self._highest_beside:
                return ranked
        return self._exact.top(user, count, barred)

    def _candidates(self, user: User, vector: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Return proposed rows, ascending, without repeats; the best `count` are among them."""
        listed = self._lists.search(vector, 2 * count + self.effort.spare, depth=self.effort.depth)
        places = candidate_rows(self._head.scores(user), min(count, len(self._head_rows)))
        found: NDArray[np.int64] = np.sort(np.concatenate((listed, self._head_rows[places])))
        fresh = found >= 0  # the lists read may hold too few
        fresh[1:] &= found[1:] != found[:-1]
        return found[fresh]

    @staticmethod
    def _allowed(rows: NDArray[np.int64], barred: Exclusions) -> NDArray[np.int64]:
        allowed = np.ones(len(rows), np.bool_) if barred.mask is None else ~barred.mask[rows]
        for further in barred.rows:
            if len(further):
                places = np.searchsorted(rows, further)
                places[places == len(rows)] = 0
                allowed[places[rows[places] == further]] = False
        left: NDArray[np.int64] = rows[allowed]
        return left


def _drift(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """Return the change of static scores relative to each other, as a share of their spread."""
    change, spread = float(np.std(after - before)), float(np.std(after))
    return change / spread if spread else change


def _scanned(exact: ExactRanker, users: Sequence[User]) -> Iterator[Ranked]:
    for start in range(0, len(users), TOGETHER):
        yield from exact.top_many([RankingQuery(user, PAGE) for user in users[start : start + TOGETHER]])


_NONE: Final = np.empty(0, np.int32)
