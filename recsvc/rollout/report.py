"""Reports the rollout of models to operators: log lines, metrics and events, each once a change."""

from collections.abc import Callable
from datetime import datetime

import structlog

from modelstore.artefact import ArtefactError
from recsvc.model.serving_model import ServingModel
from servicekit.telemetry.metrics import Metric, Metrics

logger = structlog.get_logger(__name__)


class RolloutReport:
    """Reports changes of the rollout.

    Args:
        metrics: Gets every change, and the live model's age.
        now: The time (UTC).
    """

    def __init__(self, metrics: Metrics, *, now: Callable[[], datetime]) -> None:
        self._metrics = metrics
        self._now = now
        self._complaint = ""
        self._trouble = ""

    def went_live(self, serving: ServingModel) -> None:
        """Report that a model went live."""
        self._complaint = ""
        logger.info("model.live", version=serving.manifest.version, videos=serving.manifest.video_count)
        self._metrics.count(Metric.MODEL_LOADED)

    def refused(self, what: str, error: ArtefactError) -> None:
        """Raise the alarm, once for each thing that is wrong.

        Args:
            what: A version, or the pointer.
            error: What is wrong with it.
        """
        complaint = f"{what}: {error}"
        if complaint == self._complaint:
            return
        self._complaint = complaint
        logger.error("model.refused", version=what, reason=error.reason, problem=str(error))
        self._metrics.count(Metric.MODEL_REFUSED, tags=[f"reason:{error.reason}"])
        self._metrics.event("LightFM model refused", complaint, tags=[f"reason:{error.reason}"])

    def looked(self, trouble: str, serving: ServingModel | None) -> None:
        """Report changes in the checks of the pointer, and the age of the live model.

        Args:
            trouble: Why the pointer or its model could not be read; empty when it could.
            serving: The live model.
        """
        if trouble and trouble != self._trouble:
            logger.warning("model.look_failed", problem=trouble)
        elif self._trouble and not trouble:
            logger.info("model.look_recovered")
        self._trouble = trouble
        if serving is not None:
            self._metrics.gauge(Metric.MODEL_AGE, (self._now() - serving.manifest.trained_at).total_seconds())
            self._metrics.gauge(Metric.RETRIEVAL_RECALL, serving.ranker.recall)
