"""Serves the ModelService RPCs: decode, ask the domain, encode."""

import grpc

from recsvc.grpc_api.encode import model_message
from recsvc.pages import page_token
from recsvc.rollout.activation import ModelActivation
from recsvc.rollout.listing import ModelListing
from servicekit.grpc.caller import audited
from servicekit.grpc.request_checks import Checker
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2_grpc as pb_grpc


class ModelService(pb_grpc.ModelServiceServicer):
    """Inspects the models, and changes which one is live.

    Args:
        inventory: Knows them.
        control: Moves the pointer.
    """

    def __init__(self, inventory: ModelListing, control: ModelActivation) -> None:
        self._inventory = inventory
        self._control = control

    def GetModel(self, request: pb.GetModelRequest, context: grpc.ServicerContext) -> pb.GetModelResponse:
        """Describe one model."""
        inventory = self._inventory
        manifest = inventory.describe(request.version) if request.version else inventory.live()
        return pb.GetModelResponse(model=model_message(manifest, live=inventory.is_live(manifest)))

    def ListModels(self, request: pb.ListModelsRequest, context: grpc.ServicerContext) -> pb.ListModelsResponse:
        """List the models in the store, newest first."""
        checker = Checker()
        page_size = checker.page_size(request.page_size)
        checker.finish()
        before = page_token.decode_version(request.page_token) if request.page_token else ""
        manifests, last = self._inventory.page(page_size, before)
        return pb.ListModelsResponse(
            models=[model_message(one, live=self._inventory.is_live(one)) for one in manifests],
            next_page_token=page_token.encode_version(last) if last else "",
        )

    @audited
    def ReloadModel(self, request: pb.ReloadModelRequest, context: grpc.ServicerContext) -> pb.ReloadModelResponse:
        """Check the pointer now."""
        manifest, changed = self._control.reload()
        return pb.ReloadModelResponse(model=model_message(manifest, live=True), changed=changed)

    @audited
    def ActivateModel(
        self,
        request: pb.ActivateModelRequest,
        context: grpc.ServicerContext,
    ) -> pb.ActivateModelResponse:
        """Make a version live."""
        checker = Checker()
        checker.identifier(request.version, "version")
        checker.finish()
        manifest = self._control.activate(request.version, pin=request.pin)
        return pb.ActivateModelResponse(model=model_message(manifest, live=True))
