"""Several processes on one port: each answers as one server would, and none is missed when it dies."""

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from recsvc.workers.shared_port import SharedPort
from recsvc.workers.supervisor import FIRST_DELAY_S, LONGEST_DELAY_S, STABLE_S, Worker
from tests.recsvc.support.calls import Client, Failure
from tests.recsvc.support.connections import one_to_each
from tests.recsvc.support.models import publish, random_model
from tests.recsvc.support.programs import TIMEOUT_S, Program, open_for_writing, run, started
from tests.support.polling import wait_for
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb

pytestmark = pytest.mark.process

CONNECTIONS = 12
"""The kernel deals them out; that one of two workers gets none has a chance of one in 2,048."""


@contextmanager
def two_workers(folder: Path) -> Iterator[Program]:
    """Run two workers that serve version 1 of two; they look at the pointer once a minute."""
    publish(folder / "store", random_model(2, version="2"), activate=False)
    publish(folder / "store", random_model(1, version="1"))
    with started(folder, RECSVC_WORKERS="2", MODEL_POLL_INTERVAL_S="60") as one:
        wait_for(lambda: "workers.all_serving" in one.events(), timeout_s=60, what="both serve")
        yield one
        one.process.send_signal(signal.SIGTERM)
        one.process.wait(TIMEOUT_S)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Two workers for the tests that leave them as they were."""
    with two_workers(tmp_path_factory.mktemp("lasting")) as one:
        yield one


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """Two workers for a test that does not."""
    with two_workers(tmp_path) as one:
        yield one


@contextmanager
def connected(program: Program, count: int = CONNECTIONS) -> Iterator[list[Client]]:
    """Open connections to the port, each to the worker of the kernel's choice."""
    with ExitStack() as stack:
        yield [stack.enter_context(Client.to(program.port())) for _ in range(count)]


def workers(program: Program) -> list[int]:
    """Return the workers that the supervisor keeps now."""
    return [pid for pid in program.children() if pid not in program.children("recsvc.follower")]


def connections(pid: int, port: int) -> int:
    """Return how many connections to a port a process has accepted."""
    own = {str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir() if one.is_symlink()}
    tables = [Path(f"/proc/net/{name}").read_text(encoding="utf-8").splitlines()[1:] for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]
    return sum(f":{port:04X}" in row[1] and row[3] == "01" and f"socket:[{row[9]}]" in own for row in rows)


def recommend(client: Client, user_id: str = "u1", **fields: Any) -> pb.RecommendResponse:
    return client.recommendations.Recommend(pb.RecommendRequest(user_id=user_id, **fields), timeout=5)


def test_connections_are_shared_out(lasting: Program) -> None:
    with connected(lasting) as clients:
        for client in clients:
            assert client.status() == "SERVING"
        assert recommend(clients[0]) == recommend(clients[-1])

        shares = [connections(pid, lasting.port()) for pid in workers(lasting)]

    assert len(shares) == 2
    assert all(shares)


def test_what_one_worker_is_told_of_a_user_all_know(lasting: Program) -> None:
    """An update, and then a deletion, holds in the one that was told at once, and in all of them soon after."""
    with connected(lasting) as clients:
        page = [video.video_id for video in recommend(clients[0], "new", page_size=3).videos]
        liked = [pb.Interaction(video_id=one, interaction_type=pb.INTERACTION_TYPE_LIKE) for one in page]

        def knows(client: Client) -> bool:
            after = recommend(client, "new", page_size=50)
            is_folded = after.user_state == pb.USER_STATE_FOLDED_IN
            return is_folded and not {video.video_id for video in after.videos} & set(page)

        def has_forgotten(client: Client) -> bool:
            return [video.video_id for video in recommend(client, "new", page_size=3).videos] == page

        clients[0].recommendations.UpdateUserProfile(
            pb.UpdateUserProfileRequest(user_id="new", interactions=liked), timeout=5
        )
        assert knows(clients[0])
        wait_for(lambda: all(map(knows, clients)), what="the update in all workers")

        clients[1].recommendations.DeleteUserProfile(pb.DeleteUserProfileRequest(user_id="new"), timeout=5)
        assert has_forgotten(clients[1])
        wait_for(lambda: all(map(has_forgotten, clients)), what="the deletion in all workers")


def test_a_model_made_live_by_one_worker_is_live_in_all(lasting: Program) -> None:
    """Long before they look at the pointer by themselves."""
    with connected(lasting) as clients:
        clients[0].models.ActivateModel(pb.ActivateModelRequest(version="2"), timeout=20)
        wait_for(lambda: {recommend(one).model_version for one in clients} == {"2"}, what="2 in all")
        clients[-1].models.ActivateModel(pb.ActivateModelRequest(version="1"), timeout=20)
        wait_for(lambda: {recommend(one).model_version for one in clients} == {"1"}, what="1 in all")


class Caller:
    """Calls over one connection without a pause."""

    def __init__(self, client: Client, stopping: threading.Event) -> None:
        self.codes: list[grpc.StatusCode] = []
        self._client = client
        self._stopping = stopping
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                recommend(self._client)
                self.codes.append(grpc.StatusCode.OK)
            except grpc.RpcError as error:
                failed: Any = error
                self.codes.append(failed.code())
                time.sleep(0.01)

    def answered(self) -> int:
        return self.codes.count(grpc.StatusCode.OK)


def test_a_killed_worker_costs_its_own_calls_only(program: Program) -> None:
    """The calls on the other's connections go on without one error; a new worker takes the dead one's place."""
    stopping = threading.Event()
    with connected(program, 6) as clients:
        first, second = workers(program)
        before = []
        for client in clients:
            count = connections(first, program.port())
            assert client.status() == "SERVING"
            before.append(connections(first, program.port()) > count)
        callers = [Caller(client, stopping) for client in clients]
        for caller in callers:
            caller.thread.start()
        try:
            wait_for(lambda: min(one.answered() for one in callers) > 20, what="load")
            os.kill(first, signal.SIGKILL)
            wait_for(
                lambda: program.events().count("workers.all_serving") == 2, timeout_s=60, what="a new worker serves"
            )
            marks = [one.answered() for one in callers]
            wait_for(lambda: all(one.answered() > mark + 20 for one, mark in zip(callers, marks, strict=True)), what="")
        finally:
            stopping.set()
            for caller in callers:
                caller.thread.join()

    for caller, was_first in zip(callers, before, strict=True):
        failed = [code for code in caller.codes if code is not grpc.StatusCode.OK]
        assert set(failed) <= {grpc.StatusCode.UNAVAILABLE} if was_first else not failed
    assert second in workers(program)
    assert first not in workers(program)
    assert program.events().count("worker.died") == 1


def test_running_calls_of_all_workers_end_well_after_sigterm(tmp_path: Path, program: Program) -> None:
    """Each waits on the store, whose files are pipes; new calls are refused, and the program ends with status 0."""
    pipes = [tmp_path / "store" / f"slow{number}" / "manifest.json" for number in range(6)]
    for pipe in pipes:
        pipe.parent.mkdir()
        os.mkfifo(pipe)
    with one_to_each(program.process.pid, program.port()) as clients:  # as a worker runs four of them at once
        running = [
            client.models.GetModel.future(pb.GetModelRequest(version=pipe.parent.name), timeout=TIMEOUT_S)
            for client, pipe in zip([*clients.values()] * 3, pipes, strict=True)
        ]
        writers = [wait_for(opened(pipe), what="the call reads the pipe") for pipe in pipes]
        program.process.send_signal(signal.SIGTERM)
        wait_for(lambda: refused(program.port()), what="new calls refused")
        for writer in writers:
            assert writer
            writer.write((tmp_path / "store" / "1" / "manifest.json").read_bytes())
            writer.close()

        assert [call.result().model.version for call in running] == ["1"] * len(pipes)
    assert program.process.wait(TIMEOUT_S) == 0
    assert program.events()[-1] == "workers.stopped"


def opened(pipe: Path) -> Callable[[], Any]:
    return lambda: open_for_writing(pipe)


def refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_workers_do_not_outlive_their_supervisor(program: Program) -> None:
    pids = workers(program)
    program.process.kill()
    program.process.wait()

    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), what="the workers ended")


def test_an_empty_store_is_served_by_all_as_soon_as_it_is_filled(tmp_path: Path) -> None:
    with started(tmp_path, RECSVC_WORKERS="2") as program:
        wait_for(lambda: "workers.all_serving" in program.events(), timeout_s=60, what="both listen")
        with connected(program) as clients:
            assert {client.status() for client in clients} == {"NOT_SERVING"}
            assert Failure.of(lambda: recommend(clients[0])).reason == "NO_MODEL"
            publish(tmp_path / "store", random_model(version="1"))
            wait_for(lambda: {client.status() for client in clients} == {"SERVING"}, what="SERVING")
            watch = clients[0].health.Watch(health_pb2.HealthCheckRequest())
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            watch.cancel()
        program.process.send_signal(signal.SIGINT)
        assert program.process.wait(TIMEOUT_S) == 0


def test_what_keeps_a_worker_from_serving_is_told_once(tmp_path: Path) -> None:
    publish(tmp_path / "store", random_model(version="1"))
    path = tmp_path / "store" / "1" / "users.npy"
    path.write_bytes(path.read_bytes()[:-1])

    done = run(tmp_path, RECSVC_WORKERS="2")

    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert (done.returncode, len(errors)) == (1, 1)
    assert "no model can be served" in errors[0]


def test_the_port_of_another_program_of_workers_is_taken(tmp_path: Path, lasting: Program) -> None:
    done = run(tmp_path, RECSVC_WORKERS="2", RECSVC_LISTEN=f"127.0.0.1:{lasting.port()}")

    assert done.returncode == 2
    assert re.fullmatch(
        r"error: Failed to bind to address 127\.0\.0\.1:\d+: it is in use by .+ \(pid \d+\)\n", done.stderr
    )


@pytest.mark.parametrize("address", ["unix:/run/x", "50051", "localhost:http", "localhost:65536"])
def test_only_ports_can_be_shared(address: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        SharedPort.reserve(address)


def test_a_reserved_port_is_nobody_elses() -> None:
    port = SharedPort.reserve("127.0.0.1:0")
    number = int(port.address.rpartition(":")[2])
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", number))

    port.release()
    with socket.socket() as other:
        other.bind(("127.0.0.1", number))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_worker_that_dies_again_and_again_is_started_ever_more_seldom() -> None:
    clock = Clock()
    worker = Worker(["/bin/false"], {}, clock)
    delays = []
    for lived_s in [0.0] * 9 + [STABLE_S]:
        if not worker.is_started:
            worker.look()
        wait_for(lambda: worker.status() is not None, what="it died")
        clock.now += lived_s
        worker.look()
        delays.append(until_started(worker, clock))

    worker.wait(TIMEOUT_S)
    assert delays[:3] == pytest.approx([FIRST_DELAY_S, 2 * FIRST_DELAY_S, 4 * FIRST_DELAY_S], abs=0.06)
    assert delays[8] == pytest.approx(LONGEST_DELAY_S, abs=0.06)
    assert delays[9] == pytest.approx(FIRST_DELAY_S, abs=0.06)


def test_a_worker_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    """As when the machine has too little memory for a moment."""
    clock, program = Clock(), tmp_path / "worker"
    worker = Worker([str(program)], {}, clock)
    for _ in range(3):
        worker.look()
        clock.now += LONGEST_DELAY_S
        assert not worker.is_started

    program.symlink_to("/bin/true")
    worker.look()

    assert worker.is_started
    assert worker.wait(TIMEOUT_S) == 0


def until_started(worker: Worker, clock: Clock) -> float:
    """Let time pass until it is started again; return how much did."""
    began = clock.now
    while True:
        worker.look()
        if worker.is_started:
            return clock.now - began
        clock.now += 0.05
