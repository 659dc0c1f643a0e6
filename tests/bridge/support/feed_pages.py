"""What stands on a page."""

from google.rpc import error_details_pb2
from grpc import StatusCode, aio
from grpc_status import rpc_status

from tests.bridge.support.fault_server import Step
from videowindow.feed.v1 import feed_pb2 as pb

DOWN = Step(StatusCode.UNAVAILABLE)


def ids_of(reply: pb.GetRecommendationsResponse | pb.GetTrendingResponse) -> list[str]:
    return [video.video_id for video in reply.videos]


def bad_fields_of(error: aio.AioRpcError) -> list[str]:
    assert error.code() is StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # an AioRpcError has what it needs
    assert status is not None
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert [detail.Unpack(info) for detail in status.details].count(True) == 1
    assert any(detail.Unpack(bad) for detail in status.details)
    return [violation.field for violation in bad.field_violations]
