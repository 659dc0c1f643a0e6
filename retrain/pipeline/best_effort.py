"""Runs steps whose failure must not fail the run."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from retrain.errors import RunError
from retrain.pipeline.observer import RunObserver, Undone

logger = structlog.get_logger("retrain")


@contextmanager
def best_effort(event: str, observer: RunObserver) -> Iterator[None]:
    """Log a failure, a defect with its trace, and record it in the observer.

    Args:
        event: What is logged then, such as `report.failed`; the observer gets the part before the dot.
        observer: Of the run.
    """
    try:
        yield
    except (OSError, RunError) as error:
        logger.warning(event, problem=str(error))
        observer.note(Undone(event.partition(".")[0]))
    except Exception:
        logger.exception(event)
        observer.note(Undone(event.partition(".")[0]))
