"""Samples pages to look at: the distribution of their places, and the pages of some users beside their likes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from retrain.data.prepare import Interactions
from retrain.evaluation.held_out_day import HeldOutDay
from retrain.evaluation.live_model import LiveModel
from retrain.evaluation.page_ranking import Scores
from retrain.gates.quality_gate import live_pages
from retrain.report.data import BASELINE, LIVE, SERVED, PopularityBand, SampledUser, Showcase, VideoOnPage

BANDS: Final = {"the top 1 %": 0.01, "the next 9 %": 0.1, "the next 40 %": 0.5, "the rest": 1.0}
"""Where each band ends, as a share of all videos by falling popularity."""
MAX_USERS: Final = 1000
"""Users whose pages tell where places go."""
SAMPLES: Final = 6
PLACES: Final = 8
"""Videos shown of a page or a history."""

Pages = Mapping[str, NDArray[np.int64]]


def showcase(
    interactions: Interactions,
    day: HeldOutDay,
    scores: Scores,
    weight: float,
    live_model: LiveModel | None,
    *,
    since: datetime,
    threads: int = 1,
    seed: int = 0,
) -> Showcase:
    """Return the pages of a day.

    Args:
        interactions: Tell who and what the rows are.
        day: The day.
        scores: The candidate's.
        weight: That of the popularity prior.
        live_model: The live model; None where there is none.
        since: The day's beginning.
        threads: Threads to use.
        seed: Of the choice of users.
    """
    day = day.sample(MAX_USERS, seed=seed)
    (served,) = day.pages(scores, (weight,), threads=threads)
    pages = {SERVED: served, BASELINE: day.popular_pages()}
    if live_model:
        pages[LIVE] = live_pages(live_model, day, threads=threads)
    return Showcase(bands=_bands(pages, day.popularity), samples=_samples(interactions, day, pages, since))


def _bands(pages: Pages, popularity: NDArray[np.float32]) -> tuple[PopularityBand, ...]:
    ranks = np.empty(len(popularity), np.int64)
    ranks[np.argsort(-popularity, kind="stable")] = np.arange(len(popularity))
    ends = [0, *(max(1, round(share * len(popularity))) for share in BANDS.values())]
    found = []
    for name, (begin, end) in zip(BANDS, pairwise(ends), strict=True):
        shares = {}
        for ranking, rows in pages.items():
            filled = ranks[rows[rows >= 0]]
            shares[ranking] = float(((filled >= begin) & (filled < end)).mean()) if len(filled) else 0.0
        found.append(PopularityBand(name=name, videos=max(0, end - begin), shares=shares))
    return tuple(found)


def _samples(interactions: Interactions, day: HeldOutDay, pages: Pages, since: datetime) -> tuple[SampledUser, ...]:
    chosen = _chosen(day)
    users = day.users[chosen].tolist()
    if not users:
        return ()
    histories = {user: liked[:PLACES] for user, liked in interactions.liked_before(users, since).items()}
    old, new = (_tops(pages.get(name), chosen) for name in (LIVE, SERVED))
    rows = {video for page in (*old, *new) for video in page}
    rows |= {video for history in histories.values() for video, _ in history}
    told = {
        row: VideoOnPage(video=name, author=author, tags=tuple(tags))
        for row, (name, author, tags) in interactions.about(sorted(rows)).items()
    }
    names = interactions.names_of(users)
    return tuple(
        SampledUser(
            user=names[user],
            known=len(day.seen[user]),
            history=tuple(replace(told[video], liked=said) for video, said in histories.get(user, ())),
            old_page=_shown(before, after, told, day.relevant[place]),
            new_page=_shown(after, before, told, day.relevant[place]),
        )
        for user, place, before, after in zip(users, chosen, old, new, strict=True)
    )


def _chosen(day: HeldOutDay) -> list[int]:
    """Return the places of some users, from one with few shown videos to one with many."""
    lengths = day.seen.lengths()[day.users]
    order = np.argsort(lengths, kind="stable")
    known = order[lengths[order] > 0]
    order = known if len(known) else order  # of strangers there is no history to look at
    places = np.unique(np.linspace(0, len(order) - 1, min(SAMPLES, len(order))).round().astype(np.int64))
    found: list[int] = order[places].tolist()
    return found


def _tops(pages: NDArray[np.int64] | None, places: Sequence[int]) -> list[list[int]]:
    if pages is None:
        return [[] for _ in places]
    return [[row for row in pages[place, :PLACES].tolist() if row >= 0] for place in places]


def _shown(
    page: Sequence[int], other: Sequence[int], told: Mapping[int, VideoOnPage], liked: NDArray[np.int32]
) -> tuple[VideoOnPage, ...]:
    right = set(liked.tolist())
    return tuple(replace(told[row], alone=bool(other) and row not in other, liked=row in right) for row in page)
