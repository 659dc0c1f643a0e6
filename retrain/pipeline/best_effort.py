"""What a run does besides publishing: it may fail, and the run does not."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from retrain.errors import RunError
from retrain.pipeline.progress_record import RunProgress

logger = structlog.get_logger("retrain")


@contextmanager
def best_effort(event: str, record: RunProgress) -> Iterator[None]:
    """Log what fails, a defect with its trace, and note it in the record.

    Args:
        event: What is logged then, such as `report.failed`; the record gets the part before the dot.
        record: Of the run.
    """
    try:
        yield
    except (OSError, RunError) as error:
        logger.warning(event, problem=str(error))
        record.undone.append(event.partition(".")[0])
    except Exception:
        logger.exception(event)
        record.undone.append(event.partition(".")[0])
