"""Defines an interaction as a value, and the limits that the API documents for it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum, auto
from typing import Final, TypeAlias
from uuid import UUID

from bridge.domain.event_identity import content_of
from servicekit.grpc.request_checks import Checker
from servicekit.inputs.identifiers import PLAIN, identifier_problem
from servicekit.inputs.numbers import LARGEST

MAX_AGE: Final = timedelta(days=7)
MAX_AHEAD: Final = timedelta(minutes=5)
MAX_WATCH_TIME_MS: Final = 86_400_000
MAX_RATING: Final = 5.0
MAX_SEARCH_QUERY_BYTES: Final = 1024
MAX_METADATA_ENTRIES: Final = 32
MAX_METADATA_KEY_BYTES: Final = 64
MAX_METADATA_VALUE_BYTES: Final = 512
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class InteractionType(StrEnum):
    """Types of interactions; the values are those of Kafka messages, of exports and of the database."""

    IMPRESSION = auto()
    WATCH = auto()
    COMPLETE = auto()
    LIKE = auto()
    UNLIKE = auto()
    FOLLOW = auto()
    COMMENT = auto()
    SHARE = auto()
    FAVORITE = auto()
    RATING = auto()
    SEARCH = auto()
    SKIP = auto()
    HIDE = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class RecommendationContext:
    """The recommendation that led to an event; empty texts and None are unknown."""

    feed_session_id: str = ""
    algorithm: str = ""
    model_version: str = ""
    experiment_variant_id: str = ""
    recommendation_score: float | None = None


NO_RECOMMENDATION: Final = RecommendationContext()


@dataclass(frozen=True, kw_only=True, slots=True)
class Interaction:
    """One interaction of a user.

    Attributes:
        event_id: By which repeats are recognised.
        user_id: The user.
        video_id: The video.
        interaction_type: What was done.
        watch_time_ms: Time watched; 0 where it does not apply.
        occurred_at: When (UTC), to the millisecond, so that Postgres and Kafka hold the same instant.
        recommendation: What led to it.
        rating: The value of a rating; None for other types.
        search_query: The text searched for; empty for other types.
        metadata: Free-form facts.
    """

    event_id: UUID
    user_id: str
    video_id: str
    interaction_type: InteractionType
    occurred_at: datetime
    watch_time_ms: int = 0
    recommendation: RecommendationContext = NO_RECOMMENDATION
    rating: float | None = None
    search_query: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    def content(self) -> int:
        """Return a digest of the content, which detects an identifier that is used for something else.

        Neither when it was done, which the bridge fills in where the caller does not, nor what is said about it.
        """
        kind, rating, query = self.interaction_type.value, self.rating, self.search_query
        return content_of(f"{self.video_id}\0{kind}\0{self.watch_time_ms}\0{rating}\0{query}")


InteractionListener: TypeAlias = Callable[[Interaction], None]
"""Called with an interaction; must return at once and never raise."""


def check_interaction(interaction: Interaction, checker: Checker, path: str, now: datetime) -> None:
    """Report every field that breaks a documented limit; `path` is the interaction's own."""
    for name, problem in _problems(interaction, now):
        checker.report(f"{path}.{name}", problem)


def check_timestamp(occurred_at: datetime, checker: Checker, path: str, now: datetime) -> None:
    """Report an instant that is more than 7 days ago or more than 5 minutes ahead."""
    if problem := _timestamp_problem(occurred_at, now):
        checker.report(path, problem)


def check_recommendation(recommendation: RecommendationContext, checker: Checker, path: str) -> None:
    """Report each bad part of the recommendation that led to an event."""
    for name, problem in _recommendation_problems(recommendation):
        checker.report(f"{path}.{name}", problem)


def check_text(value: str, most_bytes: int, checker: Checker, path: str) -> None:
    """Report a text that is too long in UTF-8, or that Postgres cannot store."""
    for problem in _text_problems(value, most_bytes):
        checker.report(path, problem)


def _problems(interaction: Interaction, now: datetime) -> Iterator[tuple[str, str]]:
    """Yield each bad field and what is wrong with it, in the order of the message's fields."""
    yield from _always_problems(interaction, now)
    if interaction.recommendation != NO_RECOMMENDATION:
        for name, problem in _recommendation_problems(interaction.recommendation):
            yield f"recommendation.{name}", problem
    if interaction.rating is not None or interaction.interaction_type is InteractionType.RATING:
        yield from _rating_problems(interaction)
    if interaction.search_query or interaction.interaction_type is InteractionType.SEARCH:
        yield from _search_query_problems(interaction)
    if interaction.metadata:
        yield from _metadata_problems(interaction.metadata)


def _always_problems(interaction: Interaction, now: datetime) -> Iterator[tuple[str, str]]:
    """Yield problems of the fields that every interaction has."""
    for name, value in (("user_id", interaction.user_id), ("video_id", interaction.video_id)):
        if not PLAIN.fullmatch(value) and (problem := identifier_problem(value)):
            yield name, problem
    if not 0 <= interaction.watch_time_ms <= MAX_WATCH_TIME_MS:
        yield "watch_time", f"is {interaction.watch_time_ms}, must be from 0 to {MAX_WATCH_TIME_MS} milliseconds"
    if problem := _timestamp_problem(interaction.occurred_at, now):
        yield "timestamp", problem


def _timestamp_problem(occurred_at: datetime, now: datetime) -> str:
    if occurred_at > now + MAX_AHEAD:
        return "is more than 5 minutes in the future"
    return "is more than 7 days in the past" if occurred_at < now - MAX_AGE else ""


def _recommendation_problems(recommendation: RecommendationContext) -> Iterator[tuple[str, str]]:
    for name in ("feed_session_id", "algorithm", "model_version", "experiment_variant_id"):
        value: str = getattr(recommendation, name)
        if value and not PLAIN.fullmatch(value) and (problem := identifier_problem(value)):
            yield name, problem
    score = recommendation.recommendation_score
    if score is not None and not abs(score) <= LARGEST:  # also nan
        yield "recommendation_score", f"must be finite, from {-LARGEST:g} to {LARGEST:g}"


def _rating_problems(interaction: Interaction) -> Iterator[tuple[str, str]]:
    if interaction.rating is None:
        yield "rating", "is required for a rating"
        return
    if interaction.interaction_type is not InteractionType.RATING:
        yield "rating", "is allowed for a rating only"
    if not 0 <= interaction.rating <= MAX_RATING:
        yield "rating", f"is {interaction.rating}, must be from 0 to 5"


def _search_query_problems(interaction: Interaction) -> Iterator[tuple[str, str]]:
    if not interaction.search_query:
        yield "search_query", "is required for a search"
        return
    if interaction.interaction_type is not InteractionType.SEARCH:
        yield "search_query", "is allowed for a search only"
    for problem in _text_problems(interaction.search_query, MAX_SEARCH_QUERY_BYTES):
        yield "search_query", problem


def _metadata_problems(metadata: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if len(metadata) > MAX_METADATA_ENTRIES:
        yield "metadata", f"has {len(metadata)} entries, at most {MAX_METADATA_ENTRIES} are allowed"
        return
    for key, value in sorted(metadata.items()):
        if not key:
            yield "metadata", "has an empty key"
        for problem in _text_problems(key, MAX_METADATA_KEY_BYTES):
            yield "metadata", problem
        for problem in _text_problems(value, MAX_METADATA_VALUE_BYTES):
            yield f"metadata[{key[:MAX_METADATA_KEY_BYTES]!r}]", problem


def _text_problems(value: str, most_bytes: int) -> list[str]:
    problems = []
    if len(value.encode()) > most_bytes:
        problems.append(f"is longer than {most_bytes} bytes")
    if "\0" in value:
        problems.append("must not contain a NUL character")
    return problems
