"""Explains in words why a video was recommended.

A score is the match of taste plus biases plus popularity. What of it lies above the average video is split into the
match and the popularity; the match is then told by what speaks for it most: a like video that the user dealt with,
tags and authors that are more frequent in the user's history than in the catalogue.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsvc.domain.interaction import LONG_WATCH_MS, PREFERENCE_WEIGHTS, InteractionType
from recsvc.domain.user import User
from recsvc.model.serving_model import ServingModel

MAX_REASONS: Final = 3
MIN_WEIGHT: Final = 0.05
MIN_COSINE: Final = 0.3
"""Videos less alike than this are not called similar."""
MIN_SHARE: Final = 0.1
"""A tag or author below this share of the user's history is not called frequent."""
MIN_VIDEOS: Final = 2
MAX_HISTORY: Final = 500
"""Videos of the history that are compared with."""
_LONG: Final = 0.8
_VERBS: Final = {
    InteractionType.LIKE: "which you liked",
    InteractionType.SHARE: "which you shared",
    InteractionType.COMMENT: "which you commented on",
    InteractionType.FAVORITE: "which you kept",
    InteractionType.FOLLOW: "whose author you follow",
    InteractionType.COMPLETE: "which you watched to its end",
}


class ReasonKind(Enum):
    """Kinds of reasons."""

    SIMILAR_VIDEO = auto()
    TAG = auto()
    AUTHOR = auto()
    TRENDING = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """One reason for a video."""

    kind: ReasonKind
    text: str
    """A sentence without a full stop."""
    weight: float
    """Share of the score that it explains, 0 to 1."""


class Reasons:
    """Explains one user's page.

    Args:
        serving: The model that ranked.
        user: Whom it ranked for.
    """

    def __init__(self, serving: ServingModel, user: User) -> None:
        self._serving = serving
        self._user = user
        self._interactions = tuple(user.interactions)
        self._liked = self._history()
        self._directions = serving.neighbours.directions(self._liked)
        catalogue = serving.model.catalogue
        tags = [catalogue.tag_rows[row] for row in self._liked.tolist()]
        self._tag_counts = np.bincount(np.concatenate(tags), minlength=len(catalogue.tags)) if tags else None
        authors = catalogue.author_rows[self._liked]
        self._author_counts = np.bincount(authors[authors >= 0], minlength=len(catalogue.authors))
        self._usual_prior = float(serving.prior.mean())

    def of(self, row: int) -> list[Reason]:
        """Return the reasons for one video, weightiest first; at most 3."""
        taste, trend = self._shares(row)
        told = [*self._similar(row), *self._tags(row), *self._author(row)] if taste else []
        evidence = sum(weight for _, _, weight in told)
        reasons = [
            Reason(kind=kind, text=text, weight=taste * weight / evidence) for kind, text, weight in told if evidence
        ]
        if trend:
            reasons.append(Reason(kind=ReasonKind.TRENDING, text="Many users watch it now", weight=trend))
        weighty = [reason for reason in reasons if reason.weight >= MIN_WEIGHT]
        return sorted(weighty, key=lambda reason: -reason.weight)[:MAX_REASONS]

    def _history(self) -> NDArray[np.int64]:
        """Return the videos that represent the user's taste: those liked since training, and those seen."""
        rows, weights = self._serving.fold_in.taste(self._interactions)
        disliked = rows[weights < 0]
        older = self._user.seen[-MAX_HISTORY:].astype(np.int64)
        known = np.concatenate((rows[weights > 0], older[~np.isin(older, disliked)]))
        if self._user.vector is None:
            return known[:0]
        unique: NDArray[np.int64] = np.unique(known)
        return unique

    def _shares(self, row: int) -> tuple[float, float]:
        """Return the shares of taste and of popularity in the part of the score above the average."""
        model, vector = self._serving.model, self._user.vector
        match = max(0.0, float(model.video_factors[row] @ vector)) if vector is not None else 0.0
        trend = max(0.0, float(self._serving.prior[row]) - self._usual_prior)
        whole = match + trend
        return (match / whole, trend / whole) if whole > 0 else (0.0, 0.0)

    def _similar(self, row: int) -> list[tuple[ReasonKind, str, float]]:
        (direction,) = self._serving.neighbours.directions(np.array([row]))
        cosines = np.where(self._liked == row, -1, self._directions @ direction)
        if not len(cosines) or cosines.max() < MIN_COSINE:
            return []
        best = int(np.argmax(cosines))
        (video_id,) = self._serving.model.videos.ids(self._liked[best : best + 1])
        return [(ReasonKind.SIMILAR_VIDEO, f"Similar to {video_id}, {self._dealing(video_id)}", float(cosines[best]))]

    def _dealing(self, video_id: str) -> str:
        """Return the user's strongest interaction with a video."""
        done = [one for one in self._interactions if one.video_id == video_id]
        verbs = [text for kind, text in _VERBS.items() if any(one.kind is kind for one in done)]
        if verbs:
            return verbs[0]
        watched = [one.watch_ms for one in done if PREFERENCE_WEIGHTS[one.kind].watched]
        if not watched:
            return "which is in your history"
        row = self._serving.model.videos.row(video_id)
        full_ms = int(self._serving.model.catalogue.durations_ms[row])
        return "which you watched long" if max(watched) >= _long_ms(full_ms) else "which you watched"

    def _tags(self, row: int) -> list[tuple[ReasonKind, str, float]]:
        lists = self._serving.model.catalogue.tag_rows
        if self._tag_counts is None:
            return []
        counts = [(int(self._tag_counts[tag]), tag) for tag in lists[row].tolist()]
        count, tag = max(counts, default=(0, 0))
        share = count / max(1, len(self._liked))
        if count < MIN_VIDEOS or share < MIN_SHARE:
            return []
        (name,) = self._serving.model.catalogue.tags.ids(np.array([tag]))
        return [(ReasonKind.TAG, f"You often watch videos tagged {name}", share)]

    def _author(self, row: int) -> list[tuple[ReasonKind, str, float]]:
        author = int(self._serving.model.catalogue.author_rows[row])
        count = int(self._author_counts[author]) if author >= 0 else 0
        if count < MIN_VIDEOS:
            return []
        (name,) = self._serving.model.catalogue.authors.ids(np.array([author]))
        return [(ReasonKind.AUTHOR, f"You often watch videos by {name}", max(MIN_SHARE, count / len(self._liked)))]


def _long_ms(duration_ms: int) -> float:
    return _LONG * min(duration_ms, LONG_WATCH_MS) if duration_ms > 0 else LONG_WATCH_MS
