"""`python -m recsvc` as it is started and stopped in production."""

import os
import re
import signal
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from modelstore.artefact import write
from modelstore.registry import Pointer, Registry
from servicekit.storage.object_store import open_store
from tests.recsvc.support.calls import Client, Failure
from tests.recsvc.support.models import TRAINED_AT, publish, random_model
from tests.recsvc.support.programs import TIMEOUT_S, environment, open_for_writing, run, started
from tests.support.datadog_agent import DatadogAgent
from tests.support.dogstatsd import DogStatsdServer
from tests.support.polling import wait_for
from tests.support.s3 import new_bucket, s3_server
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb


def test_running_calls_end_well_after_sigterm(tmp_path: Path) -> None:
    """A call waits on the store, whose file is a pipe: it is answered after SIGTERM, new ones are not; exit 0."""
    publish(tmp_path / "store", random_model(version="1"))
    (tmp_path / "store" / "2").mkdir()
    pipe = tmp_path / "store" / "2" / "manifest.json"
    os.mkfifo(pipe)
    with started(tmp_path) as program, Client.to(program.port()) as client:
        watch = client.health.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        running = client.models.GetModel.future(pb.GetModelRequest(version="2"), timeout=TIMEOUT_S)
        # A pipe can be opened for writing without waiting only when somebody reads: then the call runs.
        writer = wait_for(lambda: open_for_writing(pipe), what="the call reads the pipe")
        assert writer

        program.process.send_signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        wait_for(lambda: _refused(program.port()), what="new calls refused")
        writer.write((tmp_path / "store" / "1" / "manifest.json").read_bytes())
        writer.close()

        assert running.result().model.version == "1"
        assert program.process.wait(TIMEOUT_S) == 0
        assert {"server.draining", "server.stopped", "follower.left_clean"} <= {*program.events()}
        assert program.events()[-1] == "workers.stopped"


def _refused(port: int) -> bool:
    with Client.to(port) as client:
        try:
            client.models.GetModel(pb.GetModelRequest(), timeout=5)
        except grpc.RpcError as error:
            return "UNAVAILABLE" in str(error)
    return False


def test_a_callers_trace_goes_on_in_the_server(tmp_path: Path) -> None:
    """`ddtrace-run` finds every call of one request, how it ended, and the caller's trace in its metadata."""
    publish(tmp_path / "store", random_model(version="1"))
    trace_id = 0x1234_5678_9ABC_DEF1
    metadata = (("x-datadog-trace-id", str(trace_id)), ("x-datadog-parent-id", "7"))
    run_traced = str(Path(sys.executable).with_name("ddtrace-run"))
    options = {"DD_TRACE_WRITER_INTERVAL_SECONDS": "0.1", "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false"}
    with (
        DatadogAgent() as agent,
        started(tmp_path, run_traced, DD_TRACE_AGENT_URL=agent.url, **options) as program,
        Client.to(program.port()) as client,
    ):
        page = client.recommendations.Recommend(pb.RecommendRequest(user_id="u1"), metadata=metadata, timeout=TIMEOUT_S)
        assert len(page.videos) == 20
        unknown = pb.GetModelRequest(version="unknown")
        assert Failure.of(lambda: client.models.GetModel(unknown, timeout=TIMEOUT_S)).code is grpc.StatusCode.NOT_FOUND
        wait_for(lambda: b"ModelService/GetModel" in b"".join(agent.traces), what="both calls are traced")
        body = b"".join(agent.traces)

    assert b"RecommendationService/Recommend" in body
    assert b"StatusCode.NOT_FOUND" in body
    assert body.count(trace_id.to_bytes(8, "big")) == 1, "of the caller's trace is one call only"


def test_interrupting_an_idle_server_ends_it_cleanly(tmp_path: Path) -> None:
    with started(tmp_path) as program:
        program.port()
        program.process.send_signal(signal.SIGINT)

        assert program.process.wait(TIMEOUT_S) == 0


def test_watchers_of_health_do_not_keep_a_server_beyond_its_grace(tmp_path: Path) -> None:
    with started(tmp_path, RECSVC_DRAIN_GRACE_S="0.2") as program, Client.to(program.port()) as client:
        watches = [client.health.Watch(health_pb2.HealthCheckRequest()) for _ in range(20)]
        assert len([next(watch).status for watch in watches]) == 20
        program.process.send_signal(signal.SIGTERM)

        assert program.process.wait(TIMEOUT_S) == 0
        assert program.events()[-1] == "workers.stopped"


def test_an_empty_store_is_served_and_watched(tmp_path: Path) -> None:
    with started(tmp_path) as program, Client.to(program.port()) as client:
        assert client.status() == "NOT_SERVING"
        assert Failure.of(lambda: client.models.GetModel(pb.GetModelRequest(), timeout=5)).reason == "NO_MODEL"
        publish(tmp_path / "store", random_model(version="1"))
        wait_for(lambda: client.status() == "SERVING", what="SERVING")


def test_a_bad_artefact_with_nothing_else_to_serve_ends_the_start_with_one_line(
    tmp_path: Path, dogstatsd: DogStatsdServer
) -> None:
    publish(tmp_path / "store", random_model(version="1"))
    path = tmp_path / "store" / "1" / "users.npy"
    path.write_bytes(path.read_bytes()[:-1])

    done = run(tmp_path, DD_AGENT_HOST=dogstatsd.host, DD_DOGSTATSD_PORT=str(dogstatsd.port))

    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    size = path.stat().st_size
    assert lines == [f"error: no model can be served: users.npy has {size} bytes instead of {size + 1}"]
    dogstatsd.wait("feed.lightfm.model_refused", "reason:size", "service:recsvc")


def test_the_old_model_serves_after_a_restart_onto_a_bad_one(tmp_path: Path) -> None:
    publish(tmp_path / "store", random_model(version="1"))
    with started(tmp_path) as program, Client.to(program.port()) as client:
        wait_for(lambda: _remembered(tmp_path) == "1", what="version 1 remembered")
        assert client.status() == "SERVING"
    publish(tmp_path / "store", random_model(version="2"))
    (tmp_path / "store" / "2" / "users.npy").unlink()

    with started(tmp_path) as program, Client.to(program.port()) as client:
        assert client.models.GetModel(pb.GetModelRequest(), timeout=5).model.version == "1"


def test_models_come_from_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Published there, followed there, and still served after the store is gone, also across a restart."""
    with s3_server() as s3:
        for name, value in s3.items():
            monkeypatch.setenv(name, value)
        settings = {**s3, "MODEL_STORE_URL": f"s3://{new_bucket(s3)}/models", "AWS_MAX_ATTEMPTS": "1"}
        registry = Registry(open_store(settings["MODEL_STORE_URL"]))
        with started(tmp_path, **settings) as program, Client.to(program.port()) as client:
            for version in ("1", "2"):
                folder = tmp_path / "written" / version
                registry.publish(folder, write(random_model(version=version), folder))
                registry.activate(version, at=TRAINED_AT)
            wait_for(lambda: client.status() == "SERVING" and _live(client) == "2", what="version 2 live")
            wait_for(lambda: _remembered(tmp_path) == "2", what="version 2 remembered")
    with started(tmp_path, **settings) as program, Client.to(program.port()) as client:
        wait_for(lambda: client.status() == "SERVING", what="the local copy serves")
        assert _live(client) == "2"
        failure = Failure.of(lambda: client.models.GetModel(pb.GetModelRequest(version="1"), timeout=30))
        assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")


def _remembered(folder: Path) -> str | None:
    """Return what a restart begins with."""
    last = folder / "cache" / "last.json"
    return Pointer.model_validate_json(last.read_bytes()).version if last.exists() else None


def _live(client: Client) -> str:
    return client.models.GetModel(pb.GetModelRequest(), timeout=5).model.version


def test_metrics_tell_of_the_live_model(tmp_path: Path, dogstatsd: DogStatsdServer) -> None:
    publish(tmp_path / "store", random_model(version="1"))
    with started(tmp_path, DD_AGENT_HOST=dogstatsd.host, DD_DOGSTATSD_PORT=str(dogstatsd.port)):
        assert dogstatsd.wait("feed.lightfm.model_age_seconds", "service:recsvc")[0].values[0] > 0
        assert dogstatsd.wait("feed.lightfm.model_loaded", "service:recsvc")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"MODEL_STORE_URL": ""}, "error: MODEL_STORE_URL: Field required"),
        (
            {"MODEL_STORE_URL": "http://a"},
            "error: MODEL_STORE_URL: 'http://a' is neither file:///folder nor s3://bucket/prefix",
        ),
        (
            {"RECSVC_LISTEN": "0.0.0.0:0"},
            "error: 0.0.0.0:0 is reachable from other machines: set TLS_CERT_FILE, TLS_KEY_FILE and TLS_CA_FILE",
        ),
        ({"TLS_CERT_FILE": "a.pem"}, "error: TLS_CERT_FILE: there is no a.pem"),
        ({"TLS_CERT_FILE": __file__}, "error: TLS_CERT_FILE, TLS_KEY_FILE and TLS_CA_FILE go together"),
        (
            {"MODEL_POLL_INTERVAL_S": "0"},
            "error: MODEL_POLL_INTERVAL_S: Input should be greater than or equal to 0.01",
        ),
        ({"MODEL_POLL_INTERVAL_S": "inf"}, "error: MODEL_POLL_INTERVAL_S: Input should be a finite number"),
        ({"RECSVC_THREAD": "4"}, "error: RECSVC_THREAD is no setting; did you mean RECSVC_THREADS?"),
        ({"RETRAIN_FACTOR": "16"}, "error: RETRAIN_FACTOR is no setting; did you mean RETRAIN_FACTORS?"),
    ],
)
def test_wrong_settings_end_the_start_with_one_line(tmp_path: Path, changes: dict[str, str], line: str) -> None:
    done = run(tmp_path, **changes)

    assert (done.returncode, done.stderr.splitlines()) == (2, [line])


def test_a_taken_port_ends_the_start(tmp_path: Path) -> None:
    with started(tmp_path) as program:
        done = run(tmp_path, RECSVC_LISTEN=f"127.0.0.1:{program.port()}")

    assert done.returncode == 2
    assert "Failed to bind to address" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_names_every_variable(tmp_path: Path) -> None:
    done = run(tmp_path, "--help")

    assert done.returncode == 0
    assert set(environment(tmp_path)) - {"PATH", "HOME"} <= set(re.findall(r"^ +([A-Z_]+) ", done.stdout, re.MULTILINE))
