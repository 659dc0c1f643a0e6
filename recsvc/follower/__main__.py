"""`python -m recsvc.follower`: copies interactions since training from Kafka to the store that the workers read.

recsvc's supervisor starts it; nobody needs to.
"""

import os
import sys
from contextlib import closing
from threading import Event
from typing import Final

import structlog

from recsvc.settings import RecsvcSettings
from recsvc.workers.supervisor_link import SupervisorLink
from servicekit.configuration.command_line import CommandLine
from servicekit.configuration.settings import fail
from servicekit.credentials.renewal import Renewals
from servicekit.process.termination import thread_termination
from servicekit.storage.object_store import open_store
from servicekit.telemetry.logs import configure_logs
from servicekit.telemetry.metrics import connect_metrics

SESSION: Final = "RECSVC_SESSION"
"""Environment variable that names the run of recsvc."""
MEBIBYTE: Final = 1 << 20
LOW_PRIORITY: Final = 5
"""Pages come first; a machine without a free moment still leaves it a quarter of a core."""

logger = structlog.get_logger("recsvc")


def main() -> None:
    """Follow Kafka until told to stop, or until the supervisor is gone."""
    CommandLine(
        "recsvc.follower", "Keep recsvc's live state; its supervisor starts this program.", RecsvcSettings
    ).parse(sys.argv[1:])
    link = SupervisorLink.inherited()
    session = os.environ.pop(SESSION, "")
    settings = RecsvcSettings.load(warn=link is None)
    configure_logs(settings.log_level, service="recsvc")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.nice(LOW_PRIORITY)
    stopping = thread_termination()
    if link:
        link.watch(stopping)
    follow(settings, session, stopping)
    logger.info("follower.stopped")


def follow(settings: RecsvcSettings, session: str, stopping: Event) -> None:
    """Follow Kafka with these settings; end the program with one line when it cannot start."""
    from recsvc.follower.program import Follower  # noqa: PLC0415  # imports numpy

    with (
        closing(connect_metrics(settings.dd_agent_host, settings.dd_dogstatsd_port, service="recsvc")) as metrics,
        Renewals(metrics) as renewals,
    ):
        try:
            kafka = renewals.add(settings.renewed_kafka_client()) if settings.kafka_bootstrap_servers else None
            follower = Follower(
                open_store(settings.model_store_url),
                settings.model_cache_dir.expanduser(),
                metrics,
                session=session,
                kafka=kafka.current if kafka else None,
                max_bytes=settings.recsvc_live_state_mib * MEBIBYTE,
            )
        except (OSError, ValueError) as error:
            fail(str(error))
        if kafka:
            kafka.subscribe(follower.renew)
        follower.run(stopping)


if __name__ == "__main__":
    main()
