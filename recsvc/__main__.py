"""`python -m recsvc`: start the server, and end it cleanly on SIGTERM or Ctrl-C."""

import os
import secrets
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from recsvc.live_state.preparation import hold_back, set_aside
from recsvc.local_files.folders import LIVE_STATE
from recsvc.settings import RecsvcSettings
from recsvc.workers.shared_port import SharedPort
from recsvc.workers.supervisor import Supervisor
from recsvc.workers.supervisor_link import SupervisorLink
from servicekit.configuration.command_line import CommandLine
from servicekit.configuration.settings import fail
from servicekit.credentials.client_identity import renewed_identity
from servicekit.credentials.renewal import Renewals
from servicekit.credentials.tls_files import server_credentials
from servicekit.process.listening import naming_the_holder, wait_until_free
from servicekit.process.termination import thread_termination
from servicekit.storage.object_store import open_store
from servicekit.telemetry.logs import configure_logs
from servicekit.telemetry.metrics import Metrics, connect_metrics

if TYPE_CHECKING:
    from recsvc.app import RecommendationServer

logger = structlog.get_logger("recsvc")

SOCKET_FILE: Final = "unix:"
NO_MODEL: Final = 1
"""The only model there is must not be served."""


def main() -> None:
    """Serve until told to stop."""
    CommandLine("recsvc", "Serve recommendations of the live LightFM model over gRPC.", RecsvcSettings).parse(
        sys.argv[1:]
    )
    link = SupervisorLink.inherited()
    settings = RecsvcSettings.load(warn=link is None)  # the supervisor has told it
    configure_logs(settings.log_level, service="recsvc")
    if link:
        serve(settings, link)
    else:
        supervise(settings)


def supervise(settings: RecsvcSettings) -> None:
    """Run worker processes and the follower until told to stop."""
    try:
        _check(settings)
        port = _reserved(settings)
        folder = settings.model_cache_dir.expanduser() / LIVE_STATE
    except (OSError, ValueError) as error:
        fail(str(error))
    try:
        hold_back(folder)
    except OSError as error:
        logger.warning("live_state.not_held_back", problem=str(error))
    stopping = thread_termination()
    supervisor = Supervisor(
        [sys.executable, "-m", "recsvc"],
        os.environ
        | {"RECSVC_LISTEN": port.address if port else settings.recsvc_listen, "RECSVC_SESSION": secrets.token_hex(8)},
        workers=settings.recsvc_workers,
        grace_s=settings.recsvc_lame_duck_s + settings.recsvc_drain_grace_s,
        follower=[sys.executable, "-m", "recsvc.follower"],
        on_fault=lambda: _set_aside(folder),
    )
    sys.exit(supervisor.run(stopping))


def _check(settings: RecsvcSettings) -> None:
    """Check the settings that every process needs, so that one line reports a fault: OSError or ValueError."""
    server_credentials(settings.recsvc_listen, settings.tls())
    if settings.kafka_bootstrap_servers:
        settings.renewed_kafka_client()


def _reserved(settings: RecsvcSettings) -> SharedPort | None:
    """Reserve the port that workers share, and return it; None where the only worker listens on a socket file."""
    wait_until_free(settings.recsvc_listen)
    if settings.recsvc_listen.startswith(SOCKET_FILE) and settings.recsvc_workers == 1:
        return None
    return SharedPort.reserve(settings.recsvc_listen)


def _set_aside(folder: Path) -> None:
    """Keep all processes from mapping the store until the follower has examined it."""
    try:
        set_aside(folder)
    except OSError as error:
        logger.warning("live_state.not_set_aside", problem=str(error))


def serve(settings: RecsvcSettings, link: SupervisorLink | None = None) -> None:
    """Run a worker with these settings; end the program with one line when it cannot start.

    Args:
        settings: From the environment.
        link: To the supervisor; None where there is none.
    """
    # Read when numpy is imported. Parallel BLAS would only make the calls fight over the cores.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from modelstore.artefact import ArtefactError  # noqa: PLC0415  # imports numpy

    stopping = thread_termination()
    if link:
        link.watch(stopping)
    with (
        closing(connect_metrics(settings.dd_agent_host, settings.dd_dogstatsd_port, service="recsvc")) as metrics,
        Renewals(metrics) as renewals,
    ):
        try:
            tls = settings.tls()
            identity = server_credentials(settings.recsvc_listen, tls)
            if tls:  # the server reads them itself: this tells of their end
                renewals.add(renewed_identity(tls))
            server = _server(
                settings,
                metrics,
                renewals,
                shares_port=bool(link) and not settings.recsvc_listen.startswith(SOCKET_FILE),
            )
            with naming_the_holder(settings.recsvc_listen):
                port = server.start(settings.recsvc_listen, identity)
        except ArtefactError as error:
            fail(f"no model can be served: {error}", status=NO_MODEL)
        except (OSError, RuntimeError, ValueError) as error:
            fail(str(error))
        logger.info("server.listening", address=settings.recsvc_listen, port=port)
        if link:
            link.tell_serving()
        stopping.wait()
        logger.info("server.draining")
        server.stop(settings.recsvc_drain_grace_s, lame_duck_s=settings.recsvc_lame_duck_s)
    logger.info("server.stopped")


def _server(
    settings: RecsvcSettings, metrics: Metrics, renewals: Renewals, *, shares_port: bool
) -> "RecommendationServer":
    """Return the server that the settings ask for, which learns of renewed credentials."""
    from recsvc.app import RecommendationServer  # noqa: PLC0415  # imports numpy

    kafka = renewals.add(settings.renewed_kafka_client()) if settings.kafka_bootstrap_servers else None
    server = RecommendationServer(
        open_store(settings.model_store_url),
        settings.model_cache_dir.expanduser(),
        metrics,
        threads=settings.recsvc_threads,
        poll_interval_s=settings.model_poll_interval_s,
        kafka=kafka.current if kafka else None,
        live_state_bytes=settings.recsvc_live_state_mib << 20,
        freshness_interval_s=settings.recsvc_freshness_interval_s,
        precomputed_users=settings.recsvc_precomputed_users,
        verifier=settings.verifier(),
        shares_port=shares_port,
        direct_calls=settings.recsvc_direct_calls,
    )
    if kafka:
        kafka.subscribe(server.renew_kafka)
    if verifier := settings.renewed_verifier():
        renewals.add(verifier).subscribe(server.trust)
    return server


if __name__ == "__main__":
    main()
