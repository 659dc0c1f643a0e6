"""The ModelService RPCs: decode, ask the domain, encode."""

import grpc

from recsvc import page_token
from recsvc.encoding import model_message
from recsvc.inventory import Inventory
from servicekit.errors import unimplemented
from servicekit.validation import Checker
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2_grpc as pb_grpc


class ModelService(pb_grpc.ModelServiceServicer):
    """Inspects the models.

    Args:
        inventory: Knows them.
    """

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

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

    def ReloadModel(self, request: pb.ReloadModelRequest, context: grpc.ServicerContext) -> pb.ReloadModelResponse:
        """Not offered yet."""
        raise unimplemented("ReloadModel")

    def ActivateModel(
        self,
        request: pb.ActivateModelRequest,
        context: grpc.ServicerContext,
    ) -> pb.ActivateModelResponse:
        """Not offered yet."""
        raise unimplemented("ActivateModel")
