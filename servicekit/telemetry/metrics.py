"""Defines the metrics sent over DogStatsD: every name stands here, every tag is bounded.

Sending never blocks and never fails a caller: a thread of its own looks the agent up and sends. While it is away, what
there is no room for is lost.
"""

from enum import StrEnum
from typing import Final, Protocol

from servicekit.telemetry.dogstatsd import DogStatsd, global_tags


class Metric(StrEnum):
    """Names of the metrics, with their unit or tags."""

    FALLBACK = "feed.recommendation.fallback"
    """Pages that LightFM did not rank; tag `reason`."""
    LATENCY = "feed.recommendation.latency"
    """Milliseconds a page took; tags `served_by`, `status`."""
    BREAKER_STATE = "feed.recommendation.breaker_state"
    """0 closed, 1 half open, 2 open."""
    CONCURRENCY_LIMIT = "feed.recommendation.concurrency_limit"
    """Calls to LightFM that may be under way now."""
    FEED_CACHE_DROPPED = "feed.cache.dropped"
    """Served pages that were not kept in Postgres."""
    CATALOGUE_CHANGES = "feed.catalogue.changes"
    """Videos and authors that callers changed; tag `change`: created, updated, unchanged, hidden, restored, refused."""
    CATALOGUE_ODD = "feed.catalogue.odd_records"
    """Records of the catalogue's topic that could not be read; tag `reason`: malformed, newer."""
    CATALOGUE_UNKNOWN_FIELDS = "feed.catalogue.unknown_fields"
    """Fields in records of the catalogue's topic that the program does not know."""
    HIDDEN_VIDEOS = "feed.catalogue.hidden_videos"
    """Videos that are hidden, themselves or with their author."""
    HIDDEN_AGE = "feed.catalogue.hidden_age_seconds"
    """Seconds since all was known that is hidden, by Postgres or by Kafka."""
    JOB_FAILED = "feed.jobs.failed"
    """Steps of the bridge's background jobs that failed; tag `job`."""
    ROWS_SET_ASIDE = "feed.jobs.rows_set_aside"
    """Rows that a background job of the bridge could not use; tag `job`."""
    TRENDING_COUNTED = "feed.trending.counted"
    """Interactions that trending looked at, to count them."""
    TRENDING_LAG = "feed.trending.lag_seconds"
    """Seconds until when trending has counted what was committed; told by the bridge that counts."""
    TOKEN_REFUSED = "feed.identity.refused"  # noqa: S105  # a name
    """Calls whose bearer token was refused; tag `reason`."""
    ANALYTICS_SENT = "feed.analytics.sent"
    """Events that Segment accepted."""
    ANALYTICS_LOST = "feed.analytics.lost"
    """Events that never reached Segment; tag `reason`."""
    PUBLISH_LATENCY = "feed.interactions.publish_latency"
    """Milliseconds from accepting an interaction to Kafka's acknowledgement."""
    OUTBOX_DEPTH = "feed.interactions.outbox_depth"
    """Interactions in Postgres that Kafka has not acknowledged."""
    INTERACTIONS = "feed.interactions.recorded"
    """Interactions taken in; tag `status`."""
    BACKFILLED = "feed.interactions.backfilled"
    """Interactions brought to Postgres from Kafka."""
    DEAD_LETTERS = "feed.interactions.dead_letters"
    """Messages that could not be processed, or that Kafka refused for good."""
    OUTBOX_DEAD = "feed.interactions.outbox_dead"
    """Messages in Postgres that Kafka refused for good, until they are replayed."""
    POSITION_SYNC_FAILED = "feed.playback.position_sync_failed"
    """Positions that the sync service did not take in time."""
    KAFKA_QUEUE_FULL = "feed.interactions.queue_full"
    """Messages left to the outbox, as the producer's queue was full."""
    KAFKA_REPLACED = "feed.interactions.producer_replaced"
    """Kafka producers that had stopped acknowledging."""
    MODEL_AGE = "feed.lightfm.model_age_seconds"
    """Seconds since the live model was trained."""
    RETRIEVAL_RECALL = "feed.lightfm.retrieval_recall"
    """Share of the best 20 videos that the live model's index finds, as measured against a scan; 1 without an index."""
    MODEL_LOADED = "feed.lightfm.model_loaded"
    """Models that went live."""
    MODEL_REFUSED = "feed.lightfm.model_refused"
    """Artefacts that were not served; tag `reason`."""
    LIVE_INTERACTIONS = "feed.lightfm.live_interactions"
    """Messages that recsvc read from the topic of interactions."""
    LIVE_MALFORMED = "feed.lightfm.live_malformed"
    """Those that could not be used; tag `reason`: malformed, newer_schema, defect."""
    LIVE_MISSED = "feed.lightfm.live_missed"
    """Records that retention took before recsvc read them."""
    LIVE_STATE = "feed.live_state.state"
    """1 for the state that recsvc's live state is in, 0 for the others; tag `state`: following, catching_up, blind."""
    LIVE_STATE_LAG = "feed.live_state.lag"
    """Records that the live state does not have yet; tags `topic`, `partition` (up to 63, then `more`)."""
    LIVE_STATE_AGE = "feed.live_state.record_age_seconds"
    """Seconds since the newest record that the live state has was written."""
    LIVE_STATE_BYTES = "feed.live_state.bytes"
    """Bytes that the live state takes."""
    LIVE_STATE_USERS = "feed.live_state.users"
    """Users of whom the live state knows interactions."""
    LIVE_STATE_DROPPED = "feed.live_state.dropped_users"
    """Users that the live state forgot for want of room, the oldest first."""
    LIVE_STATE_PENDING = "feed.live_state.pending"
    """Updates and deletions of profiles that wait for Kafka."""
    LIVE_STATE_DAMAGED = "feed.live_state.damaged"
    """Times that something of the live state was found damaged."""
    CERTIFICATE_LIFE = "feed.tls.certificate_life_seconds"
    """Seconds until a certificate of this program ends; tag `file`."""
    RETRAIN_SUCCESS = "feed.lightfm.retrain.success"
    """Training runs that published."""
    RETRAIN_FAILURE = "feed.lightfm.retrain.failure"
    """Training runs that did not; tag `reason`."""
    RETRAIN_STAGE_SECONDS = "feed.lightfm.retrain.stage_seconds"
    """Seconds that a stage of a run took; tag `stage`."""
    RETRAIN_SECONDS = "feed.lightfm.retrain.seconds"
    """Seconds that a run took; tag `state`."""
    RETRAIN_INTERACTIONS = "feed.lightfm.retrain.interactions"
    """Interactions that a run processed."""
    RETRAIN_QUALITY = "feed.lightfm.retrain.quality"
    """Figures of a candidate on the last day; tag `figure`."""
    RETRAIN_UNDONE = "feed.lightfm.retrain.undone"
    """Steps that failed beside a run's outcome; tag `step`: checkpoint, report, summary or prune."""
    RETRAIN_LOGGED = "feed.lightfm.retrain.logged"
    """1 if Snowflake has all runs, else 0."""


class Metrics(Protocol):
    """A sink of metrics. Tags are `name:value` texts from small sets."""

    def count(self, metric: Metric, value: int = 1, *, tags: list[str] | None = None) -> None:
        """Add to a counter."""

    def gauge(self, metric: Metric, value: float, *, tags: list[str] | None = None) -> None:
        """Set a level."""

    def distribution(self, metric: Metric, value: float, *, tags: list[str] | None = None) -> None:
        """Add an observation to a distribution with global percentiles."""

    def event(self, title: str, text: str, *, tags: list[str] | None = None) -> None:
        """Record an event that people should see."""

    def close(self) -> None:
        """Send the buffered metrics."""


class NoMetrics:
    """A sink that drops metrics, for a program without an agent."""

    def count(self, metric: Metric, value: int = 1, *, tags: list[str] | None = None) -> None:
        """Drop the count."""

    def gauge(self, metric: Metric, value: float, *, tags: list[str] | None = None) -> None:
        """Drop the level."""

    def distribution(self, metric: Metric, value: float, *, tags: list[str] | None = None) -> None:
        """Drop the observation."""

    def event(self, title: str, text: str, *, tags: list[str] | None = None) -> None:
        """Drop the event."""

    def close(self) -> None:
        """Do nothing: nothing is buffered."""


NO_METRICS: Final = NoMetrics()
"""The default of parts that may run without metrics."""


def connect_metrics(host: str | None, port: int, *, service: str) -> Metrics:
    """Return metrics to the agent at the host, or metrics that go nowhere without a host."""
    return DogStatsd(host, port, tags=global_tags(service)) if host else NoMetrics()
