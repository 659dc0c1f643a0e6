"""Defines the data of a run's report: plain values, kept as JSON beside the page that shows them."""

from datetime import date, datetime
from typing import Final

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from retrain.evaluation.held_out_day import PAGE_SIZE

NDCG: Final = f"ndcg@{PAGE_SIZE}"
SERVED: Final = "lightfm_prior"
"""The ranking that is served, by its name among the metrics."""
BASELINE: Final = "popularity"
PART: Final = "slice."
"""What the names of metrics of a part of the users or videos begin with."""
LIVE: Final = "live"
"""The model that was live before, judged on the same users."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranking:
    """Quality of one way to rank."""

    name: str
    ndcg: float
    recall: float | None = None
    ndcg_low: float | None = None
    ndcg_high: float | None = None
    """Bounds of a 95 % bootstrap interval."""
    coverage: float | None = None
    """Distinct videos on all pages."""
    popularity_share: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentQuality:
    """Quality of the served pages, for a part of the users or videos."""

    name: str
    users: int
    ndcg: float
    ndcg_low: float
    ndcg_high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Night:
    """A version of an earlier run, or of this one."""

    version: str
    last_day: date
    """The last day of its data, on which it was judged."""
    rankings: tuple[Ranking, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """Quality after a pass over the interactions."""

    fit: str
    epoch: int
    ndcg: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DayVolume:
    """A day's interactions."""

    day: date
    events: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """The result of a check."""

    check: str
    passed: bool
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PopularityBand:
    """Videos of neighbouring popularity."""

    name: str
    videos: int
    shares: dict[str, float]
    """Share of page places that go to them, by ranking."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoOnPage:
    """A video in a user's history or on a page."""

    video: str
    author: str | None
    tags: tuple[str, ...]
    alone: bool = False
    """Whether it stands on this one of the two pages only."""
    liked: bool = False
    """Whether the user liked it: in a history, by saying so; on a page, on the day that it was judged on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledUser:
    """A user, with the pages of each model."""

    user: str
    known: int
    """Videos that the user was shown before."""
    history: tuple[VideoOnPage, ...]
    """What was liked last, the latest first."""
    old_page: tuple[VideoOnPage, ...]
    """Of the model that was live before; empty where there was none."""
    new_page: tuple[VideoOnPage, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Showcase:
    """The pages of a run."""

    bands: tuple[PopularityBand, ...]
    """The most popular first."""
    samples: tuple[SampledUser, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A part of the run."""

    name: str
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RunReport:
    """The report of a run, from its input to its outcome."""

    name: str
    """Of the version, or of the attempt."""
    accepted: bool
    outcome: str
    reasons: tuple[str, ...]
    """Why it was rejected; empty when it was not."""
    parent: str | None
    """The version that was live before."""
    started_at: datetime
    seconds: float
    first_day: date
    last_day: date
    counts: dict[str, int]
    broken: dict[str, int]
    settings: dict[str, str]
    days: tuple[DayVolume, ...] = ()
    decisions: tuple[Decision, ...] = ()
    users: int | None = None
    """Those that quality was measured on."""
    popularity_weight: float | None = None
    rankings: tuple[Ranking, ...] = ()
    """The one that is served first."""
    parts: tuple[SegmentQuality, ...] = ()
    epochs: tuple[Epoch, ...] = ()
    nights: tuple[Night, ...] = ()
    """Oldest first, this run last."""
    showcase: Showcase | None = None
    stages: tuple[Stage, ...] = ()

    def ranking(self, name: str) -> Ranking | None:
        """Return a ranking by its name."""
        return next((one for one in self.rankings if one.name == name), None)


_REPORT: Final = TypeAdapter(RunReport)


def to_json(report: RunReport) -> bytes:
    """Return the report as JSON."""
    return _REPORT.dump_json(report, indent=1)


def from_json(data: bytes) -> RunReport:
    """Return a kept report; ValueError when the JSON is none."""
    try:
        return _REPORT.validate_json(data)
    except ValidationError as error:
        raise ValueError(f"not a report: {error.errors()[0]['msg']}") from None


def rankings_of(metrics: dict[str, float]) -> tuple[Ranking, ...]:
    """Return the rankings in a manifest's metrics, the served one first."""
    ending = f".{NDCG}"
    names = [key.removesuffix(ending) for key in metrics if key.endswith(ending) and not key.startswith(PART)]
    names.sort(key=lambda name: (name != SERVED, name == BASELINE))

    def told(name: str, metric: str) -> float | None:
        return metrics.get(f"{name}.{metric}")

    return tuple(
        Ranking(
            name=name,
            recall=told(name, f"recall@{PAGE_SIZE}"),
            ndcg=metrics[f"{name}{ending}"],
            ndcg_low=told(name, f"{NDCG}.low"),
            ndcg_high=told(name, f"{NDCG}.high"),
            coverage=told(name, f"coverage@{PAGE_SIZE}"),
            popularity_share=told(name, f"popularity_share@{PAGE_SIZE}"),
        )
        for name in names
    )


def parts_of(metrics: dict[str, float]) -> tuple[SegmentQuality, ...]:
    """Return the parts in a manifest's metrics."""
    ending = f".{NDCG}"
    keys = [key for key in metrics if key.startswith(PART) and key.endswith(ending)]
    return tuple(
        SegmentQuality(
            name=key.removeprefix(PART).removesuffix(ending).replace("viewers.", "users."),  # as it was called before
            users=round(_users(metrics, key.removesuffix(ending))),
            ndcg=metrics[key],
            ndcg_low=metrics[f"{key}.low"],
            ndcg_high=metrics[f"{key}.high"],
        )
        for key in keys
    )


def _users(metrics: dict[str, float], part: str) -> float:
    """Return the number of users of a part; manifests of the release before use another word for them."""
    return metrics.get(f"{part}.users", metrics.get(f"{part}.viewers", 0.0))
