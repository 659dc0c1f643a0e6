"""The server: its parts put together, started in order, and ended without losing a call."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog

from modelstore.erased_users import ErasedUsers
from modelstore.registry import Registry
from modelstore.signature import Verifier
from recsvc.grpc_api.api_version import RELEASE, with_api_version
from recsvc.grpc_api.load_shedding import with_shedding
from recsvc.grpc_api.model_service import ModelService
from recsvc.grpc_api.recommendation_service import RecommendationService
from recsvc.live_state.status import StatusReader
from recsvc.live_state.store import MAX_BYTES, LiveStore
from recsvc.local_files.folders import LIVE_STATE
from recsvc.local_files.model_cache import ModelCache
from recsvc.model.live_model import LiveModel
from recsvc.pages.recommender import Recommender
from recsvc.popularity.live_popularity import LivePopularity
from recsvc.precompute.background import Precomputation
from recsvc.profile_updates.producer import UpdateProducer
from recsvc.profile_updates.recorder import ProfileRecorder
from recsvc.rollout.activation import ModelActivation
from recsvc.rollout.listing import ModelListing
from recsvc.rollout.watcher import ModelWatcher
from recsvc.users.directory import UserDirectory
from recsvc.workers.change_counter import SharedCounter
from servicekit.credentials.server_identity import ServerIdentity
from servicekit.process.periodic_thread import PeriodicThread
from servicekit.server.choice import threaded_server
from servicekit.server.threaded import ThreadedServer
from servicekit.storage.object_store import ObjectStore
from servicekit.telemetry.metrics import Metrics
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2_grpc as pb_grpc

SERVICES: Final = [pb.DESCRIPTOR.services_by_name[name].full_name for name in ("RecommendationService", "ModelService")]

RECOMMENDATIONS, MODELS = SERVICES
APART: Final = {
    "profiles": [f"/{RECOMMENDATIONS}/UpdateUserProfile", f"/{RECOMMENDATIONS}/DeleteUserProfile"],
    "models": [f"/{MODELS}/ListModels", f"/{MODELS}/GetModel"],
    "activations": [f"/{MODELS}/ActivateModel", f"/{MODELS}/ReloadModel"],
}
"""Methods by what they wait for: Kafka and the disk, the model store, a model. No page waits behind them."""

RUNNING: Final = 4
"""Calls of such a kind that are handled at once."""

WAITING: Final = 32
"""Calls of such a kind that wait; further ones are refused."""

NEWS: Final = "models.count"
"""File that counts the models that went live, so that the processes of a machine follow each other at once."""

LIVE_STATE_PART: Final = "live-state"
"""Name under which health says how well the live state follows what users do."""
TELL_S: Final = 1.0
"""Seconds between two looks at it."""

SHARED: Final = (("grpc.so_reuseport", 1),)
"""Option of a server that shares its port."""


logger = structlog.get_logger(__name__)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class RecommendationServer:
    """Serves the models of a store: NOT_SERVING until one is live, then whichever the store's pointer names.

    Args:
        store: Where models are published.
        cache: Folder of local copies.
        metrics: Told of models that go live or are refused.
        threads: Calls handled at once.
        poll_interval_s: Seconds between two looks at the pointer.
        kafka: How to reach the brokers that take updates of profiles, in librdkafka's properties; None to do without.
        live_state_bytes: Size that the store of live state is kept below, the follower's.
        freshness_interval_s: Seconds between two refreshments of popularity from live interactions.
        precomputed_users: Trained users whose pages are found ahead.
        shares_port: Other processes listen on the port as well: this one joins them when its model is loaded.
        verifier: Knows whose models are served; None serves anybody's.
        direct_calls: Whether calls are answered on gRPC's core, which knows the pinned release of grpcio only.
        now: The time (UTC).
    """

    def __init__(
        self,
        store: ObjectStore,
        cache: Path,
        metrics: Metrics,
        *,
        threads: int,
        poll_interval_s: float,
        kafka: Mapping[str, Any] | None = None,
        live_state_bytes: int = MAX_BYTES,
        freshness_interval_s: float = 10.0,
        precomputed_users: int = 0,
        shares_port: bool = False,
        verifier: Verifier | None = None,
        direct_calls: bool = True,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._now = now
        registry = Registry(store, verifier)
        self.trust = registry.trust
        """Takes the verifier that counts from now on."""
        self.live = LiveModel(retry_after_s=poll_interval_s)
        self._rpc = _rpc_server(threads=threads, shares_port=shares_port, direct_calls=direct_calls)
        self._shares_port = shares_port
        copies, news = ModelCache(registry, cache), SharedCounter(cache / NEWS)
        self.watcher = ModelWatcher(
            registry,
            copies,
            self.live,
            metrics,
            interval_s=poll_interval_s,
            now=now,
            on_live=self._went_live,
            news=news,
        )
        self._status = StatusReader(cache / LIVE_STATE, now_ms=self._now_ms)
        self._telling = PeriodicThread("live-state-health", self._tell_live_state, interval_s=TELL_S, waits_first=False)
        self._state = LiveStore(cache / LIVE_STATE, max_bytes=live_state_bytes, is_synced=not kafka)
        self._models = store
        self._erased = ErasedUsers(store)
        self._listed: ErasedUsers | None = None
        self._forgetting = PeriodicThread("forgotten", self._forget_meanwhile, interval_s=TELL_S)
        self.updates = UpdateProducer(kafka) if kafka else None
        self.directory = self._directory(self._state)
        self.freshness = LivePopularity(self.live, self._state, interval_s=freshness_interval_s, now_ms=self._now_ms)
        recommender = Recommender(self.live, self.directory)
        self._precomputation = Precomputation(self.live, cache, recommender.adopt, most=precomputed_users)
        inventory = ModelListing(registry, self.live)
        self._add(recommender, inventory, ModelActivation(registry, self.watcher, inventory, now=now))

    def _went_live(self) -> None:
        self._rpc.set_serving(serving=True)
        self._precomputation.look_now()

    def _tell_live_state(self) -> None:
        """Report to health whether the live state follows Kafka; pages are served in either case."""
        self._rpc.report(LIVE_STATE_PART, serving=self._status.is_well())

    def _directory(self, state: LiveStore) -> UserDirectory:
        """Return the directory of users, which learns from Kafka too, or only from this machine's callers."""
        now_ms = self._now_ms
        if self.updates is None:
            return UserDirectory(state, ProfileRecorder(state, share=self._erased.add), now_ms=now_ms)
        known_until_ms = self._status.known_until_ms
        recorder = ProfileRecorder(state, kafka=self.updates)
        return UserDirectory(state, recorder, now_ms=now_ms, known_until_ms=known_until_ms)

    def _now_ms(self) -> int:
        return round(self._now().timestamp() * 1000)

    def _add(self, recommender: Recommender, inventory: ModelListing, control: ModelActivation) -> None:
        recommendations = RecommendationService(self.live, self.directory, recommender, now_ms=self._now_ms)
        self._rpc.add(pb_grpc.add_RecommendationServiceServicer_to_server, recommendations)
        self._rpc.add(pb_grpc.add_ModelServiceServicer_to_server, ModelService(inventory, control))

    def renew_kafka(self, client: Mapping[str, Any]) -> None:
        """Reach the brokers in this way from now on."""
        if self.updates:
            self.updates.renew(client)

    def start(self, address: str, identity: ServerIdentity | None = None) -> int:
        """Listen, load the first model if there is one, and return the port; in reverse where the port is shared.

        RuntimeError when the address is taken; ArtefactError when the only model there is must not be served.
        """
        port = 0 if self._shares_port else self._rpc.start(address, identity)
        try:
            self._begin()
            return self._rpc.start(address, identity) if self._shares_port else port
        except BaseException:
            self.stop(0)
            raise

    def _begin(self) -> None:
        self._forget_meanwhile()
        self._forgetting.start()
        self.directory.start()
        self.watcher.start()
        self._precomputation.start()
        self._telling.start()
        self.freshness.start()

    def _forget_meanwhile(self) -> None:
        """Know who must be forgotten, by the list of all servers, for as long as this machine's store is not there."""
        if self._state.environment() is not None:
            if self._listed:
                self._listed = None
                self._state.forget_meanwhile({})
            return
        self._listed = self._listed or ErasedUsers(self._models)
        try:
            marks = self._listed.marks()
        except Exception as error:  # noqa: BLE001  # each kind of object store raises errors of its own
            logger.warning("forgotten.read_failed", problem=f"{type(error).__name__}: {error}")
            return
        if marks is not None:
            self._state.forget_meanwhile(marks)

    def stop(self, grace_s: float, *, lame_duck_s: float = 0) -> None:
        """Say NOT_SERVING, after a while refuse new calls, and let running ones finish for up to `grace_s` seconds."""
        self._rpc.drain(grace_s, lame_duck_s=lame_duck_s)
        self.watcher.stop()
        self._precomputation.stop()
        self._telling.stop()
        self._forgetting.stop()
        self.directory.stop()
        self.freshness.stop()


def _rpc_server(*, threads: int, shares_port: bool, direct_calls: bool) -> ThreadedServer:
    """Return a server without services yet, in which no page waits behind what is slow."""
    rpc = threaded_server(direct=direct_calls)(
        SERVICES,
        threads=threads,
        options=SHARED if shares_port else (),
        decorators=[with_api_version, with_shedding],
        error_metadata=RELEASE,
    )
    for name, methods in APART.items():
        rpc.bulkhead(name, running=RUNNING, waiting=WAITING, methods=methods)
    return rpc
