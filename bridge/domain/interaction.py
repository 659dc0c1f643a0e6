"""What a user did, as a value, and the limits that the API documents for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum, auto
from typing import Final, TypeAlias
from uuid import UUID

from bridge.domain.event_identity import content_of
from servicekit.grpc.request_checks import Checker
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
    """What was done; the values are those of Kafka messages, of exports and of the database."""

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
    """Which recommendation led to an event; empty texts and None are unknown."""

    feed_session_id: str = ""
    algorithm: str = ""
    model_version: str = ""
    experiment_variant_id: str = ""
    recommendation_score: float | None = None


NO_RECOMMENDATION: Final = RecommendationContext()


@dataclass(frozen=True, kw_only=True, slots=True)
class Interaction:
    """One thing a user did.

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
        """Return a digest of what was done, by which an identifier that is used for something else is noticed.

        Neither when it was done, which the bridge fills in where the caller does not, nor what is said about it.
        """
        kind, rating, query = self.interaction_type.value, self.rating, self.search_query
        return content_of(f"{self.video_id}\0{kind}\0{self.watch_time_ms}\0{rating}\0{query}")


InteractionListener: TypeAlias = Callable[[Interaction], None]
"""Told of an interaction; must return at once and never raise."""


def check_interaction(interaction: Interaction, checker: Checker, path: str, now: datetime) -> None:
    """Report every field that breaks a documented limit; `path` is the interaction's own."""
    checker.identifier(interaction.user_id, f"{path}.user_id")
    checker.identifier(interaction.video_id, f"{path}.video_id")
    _check_watch_time(interaction.watch_time_ms, checker, f"{path}.watch_time")
    check_timestamp(interaction.occurred_at, checker, f"{path}.timestamp", now)
    check_recommendation(interaction.recommendation, checker, f"{path}.recommendation")
    _check_rating(interaction, checker, f"{path}.rating")
    _check_search_query(interaction, checker, f"{path}.search_query")
    _check_metadata(interaction.metadata, checker, f"{path}.metadata")


def check_timestamp(occurred_at: datetime, checker: Checker, path: str, now: datetime) -> None:
    """Report an instant that is more than 7 days ago or more than 5 minutes ahead."""
    checker.require(occurred_at <= now + MAX_AHEAD, path, "is more than 5 minutes in the future")
    checker.require(occurred_at >= now - MAX_AGE, path, "is more than 7 days in the past")


def _check_watch_time(milliseconds: int, checker: Checker, path: str) -> None:
    inside = 0 <= milliseconds <= MAX_WATCH_TIME_MS
    checker.require(inside, path, f"is {milliseconds}, must be from 0 to {MAX_WATCH_TIME_MS} milliseconds")


def check_recommendation(recommendation: RecommendationContext, checker: Checker, path: str) -> None:
    """Report each bad part of what led to an event."""
    for name in ("feed_session_id", "algorithm", "model_version", "experiment_variant_id"):
        value: str = getattr(recommendation, name)
        if value:
            checker.identifier(value, f"{path}.{name}")
    score = recommendation.recommendation_score
    countable = score is None or abs(score) <= LARGEST  # which does not hold for nan
    checker.require(countable, f"{path}.recommendation_score", f"must be finite, from {-LARGEST:g} to {LARGEST:g}")


def _check_rating(interaction: Interaction, checker: Checker, path: str) -> None:
    rated = interaction.interaction_type is InteractionType.RATING
    if interaction.rating is None:
        checker.require(not rated, path, "is required for a rating")
        return
    checker.require(rated, path, "is allowed for a rating only")
    checker.require(0 <= interaction.rating <= MAX_RATING, path, f"is {interaction.rating}, must be from 0 to 5")


def _check_search_query(interaction: Interaction, checker: Checker, path: str) -> None:
    searched = interaction.interaction_type is InteractionType.SEARCH
    if not interaction.search_query:
        checker.require(not searched, path, "is required for a search")
        return
    checker.require(searched, path, "is allowed for a search only")
    check_text(interaction.search_query, MAX_SEARCH_QUERY_BYTES, checker, path)


def _check_metadata(metadata: Mapping[str, str], checker: Checker, path: str) -> None:
    if len(metadata) > MAX_METADATA_ENTRIES:
        checker.require(False, path, f"has {len(metadata)} entries, at most {MAX_METADATA_ENTRIES} are allowed")  # noqa: FBT003  # the condition is above
        return
    for key, value in sorted(metadata.items()):
        checker.require(bool(key), path, "has an empty key")
        check_text(key, MAX_METADATA_KEY_BYTES, checker, path)
        check_text(value, MAX_METADATA_VALUE_BYTES, checker, f"{path}[{key[:MAX_METADATA_KEY_BYTES]!r}]")


def check_text(value: str, most_bytes: int, checker: Checker, path: str) -> None:
    """Report a text that is too long in UTF-8, or that Postgres cannot store."""
    checker.require(len(value.encode()) <= most_bytes, path, f"is longer than {most_bytes} bytes")
    checker.require("\0" not in value, path, "must not contain a NUL character")
