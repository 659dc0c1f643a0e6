"""A model store that hangs stops no page."""

import os
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2

from recsvc.app import APART
from tests.recsvc.support.calls import Client
from tests.recsvc.support.models import publish, random_model
from tests.recsvc.support.programs import TIMEOUT_S, open_for_writing, started
from tests.support.polling import wait_for
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb

pytestmark = pytest.mark.peer


def test_every_call_of_the_model_service_is_apart_from_pages() -> None:
    """Each of them may wait for the store."""
    service = pb.DESCRIPTOR.services_by_name["ModelService"]
    apart = {method for methods in APART.values() for method in methods}
    assert {f"/{service.full_name}/{method.name}" for method in service.methods} <= apart


def test_activations_that_hang_stop_neither_pages_nor_health_nor_what_is_known(tmp_path: Path) -> None:
    """The manifest is a pipe that nobody writes: more activations wait for it than the server has threads for them."""
    publish(tmp_path / "store", random_model(version="1"))
    (tmp_path / "store" / "2").mkdir()
    pipe = tmp_path / "store" / "2" / "manifest.json"
    os.mkfifo(pipe)
    with started(tmp_path) as program, Client.to(program.port()) as client:
        wait_for(lambda: client.health.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S).status == 1)
        request = pb.ActivateModelRequest(version="2")
        hung = [client.models.ActivateModel.future(request, timeout=TIMEOUT_S) for _ in range(8)]
        writer = wait_for(lambda: open_for_writing(pipe), what="an activation reads the pipe")
        assert writer
        with writer:
            for user in range(20):
                page = client.recommendations.Recommend(pb.RecommendRequest(user_id=f"u{user}"), timeout=TIMEOUT_S)
                assert page.videos
            assert client.health.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S).status == 1
            assert client.models.GetModel(pb.GetModelRequest(), timeout=TIMEOUT_S).model.version == "1"
            assert not any(one.done() for one in hung)
        for one in hung:
            one.cancel()
