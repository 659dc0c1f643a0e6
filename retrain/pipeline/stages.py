"""A training run, stage by stage: each takes what the one before returned."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from modelstore.artefact import Manifest, Model
from retrain.data.duckdb_session import DuckDbSession
from retrain.data.prepare import Interactions, prepare
from retrain.errors import Reason, RunError
from retrain.evaluation import page_ranking
from retrain.evaluation.held_out_day import POPULARITY_FLOOR, Evaluation, HeldOutDay
from retrain.evaluation.live_model import LiveModel, load_champion
from retrain.gates.data_gate import data_problems
from retrain.gates.smoke_test import SmokeServer
from retrain.pipeline.best_effort import best_effort
from retrain.pipeline.context import RunContext
from retrain.pipeline.train import Trained, train
from retrain.publishing.publish import (
    Publication,
    activate,
    find_published,
    live_version,
    name_prefix,
    publish,
    write_verified,
)
from retrain.recipe import recipe_digest
from retrain.report.data import Showcase
from retrain.report.sample_pages import showcase
from retrain.training import warp_kernel
from retrain.training.checkpoint import Checkpoint

__all__ = ["Result", "RunContext", "run", "utc_now"]

logger = structlog.get_logger("retrain")


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What came of a run."""

    publication: Publication
    interactions: Interactions | None
    """None where the same work had been published before."""
    evaluation: Evaluation | None


def run(job: RunContext, *, again: bool = False) -> Result:
    """Train, evaluate and publish; RunError leaves what is live alone.

    Args:
        job: What to work with.
        again: Train even when the same recipe was published before.
    """
    record = job.record
    record.parent = live_version(job.registry)
    record.input_digest = recipe_digest(job.source, job.settings.recipe())
    prefix = name_prefix(job.window.until, record.input_digest)
    published = None if again else find_published(job.registry, prefix)
    if published:
        record.version = published
        publication = activate(job.registry, published, now=job.now(), fence=job.fence)
        return Result(publication=publication, interactions=None, evaluation=None)
    with _smoke_server(job) as server:
        interactions, trained, model = _learnt(job)
        folder = job.folder / "model"
        with record.stage("write"):
            manifest = write_verified(model, prefix, folder)
        record.version = manifest.version
        with record.stage("smoke"):
            _smoke(job, server, folder)
    with record.stage("publish"):
        publication = publish(
            job.registry, folder, manifest, now=job.now(), key=job.settings.signing_key(), fence=job.fence
        )
    with record.stage("checkpoint"):
        _save(job, trained.checkpoint, manifest.version)
    return Result(publication=publication, interactions=interactions, evaluation=trained.evaluation)


def _learnt(job: RunContext) -> tuple[Interactions, Trained, Model]:
    """Return what the exports hold, what was learnt from it, and the model of both."""
    record = job.record
    with DuckDbSession(
        job.folder, memory=job.settings.retrain_memory, threads=job.settings.retrain_threads
    ) as warehouse:
        with _loading():
            with record.stage("prepare"):
                interactions = prepare(job.source, job.window, warehouse)
            record.counts = interactions.counts
            logger.info("interactions.prepared", events=interactions.counts.events, broken=interactions.counts.broken)
            with record.stage("gate"):
                _check_data(job, interactions)
        with record.stage("gate"):
            champion = load_champion(job.registry, job.folder / "live", interactions.users(), interactions.videos())
        trained = train(job, interactions, champion)
        model = assemble(job, interactions, trained)
        with record.stage("showcase"):
            record.showcase = _showcase(job, interactions, trained, model, champion)
    return interactions, trained, model


@contextmanager
def _loading() -> Iterator[None]:
    """Load what Numba has compiled, or compile it, in a thread: while the database works."""
    with ThreadPoolExecutor(1) as pool:
        loading = [pool.submit(load) for load in (warp_kernel.load, page_ranking.load)]
        yield
    for one in loading:
        one.result()  # raises what the thread raised


def _save(job: RunContext, checkpoint: Checkpoint, version: str) -> None:
    """Leave the state of training for the next run, which can do without."""
    if job.kept:
        begin = f"{job.record.input_digest}-"
        with suppress(OSError):  # there may be none, and others may have theirs in it
            for done in [folder for folder in job.kept.iterdir() if folder.name.startswith(begin)]:
                shutil.rmtree(done, ignore_errors=True)
            job.kept.rmdir()
    if job.checkpoints:
        with best_effort("checkpoint.not_saved", job.record):
            job.checkpoints.save(checkpoint.named(version))
            job.checkpoints.prune(job.registry.versions())


def _smoke_server(job: RunContext) -> AbstractContextManager[SmokeServer | None]:
    """Start the server of the smoke test ahead: while a run works, a core is idle at times."""
    return closing(job.smoke_server(job.folder / "smoke")) if job.smoke_server else nullcontext()


def _smoke(job: RunContext, server: SmokeServer | None, folder: Path) -> None:
    if server is None:
        return
    try:
        with closing(server):  # its end is of this stage
            job.record.smoke = server.test(folder)
    except RunError as failure:
        logger.warning("gate.smoke", problem=str(failure), forced=job.force)
        if not job.force:
            raise
    else:
        logger.info("gate.smoked", **asdict(job.record.smoke))


def _check_data(job: RunContext, interactions: Interactions) -> None:
    counts = interactions.counts
    broken = sum(counts.broken.values())
    job.record.days = tuple(interactions.days())
    problems = data_problems(job.record.days, read=counts.read, broken=broken, repeated=counts.repeated)
    job.record.data_problems = tuple(problems)
    for problem in problems:
        logger.warning("gate.data", problem=problem, forced=job.force)
    if problems and not job.force:
        raise RunError(Reason.GATE, f"{'; '.join(problems)} (--force trains on it all the same)")


def _showcase(
    job: RunContext, interactions: Interactions, trained: Trained, model: Model, champion: LiveModel | None
) -> Showcase:
    """Return pages as they will be served, beside those of the model that is live until then."""
    return showcase(
        interactions,
        HeldOutDay.after(model.seen, model.popularity),
        trained.representations.scores,
        trained.popularity_weight,
        champion,
        since=job.window.until,
        threads=job.settings.retrain_threads,
        seed=job.settings.retrain_seed,
    )


def assemble(job: RunContext, interactions: Interactions, trained: Trained) -> Model:
    """Return the model of everything that was known at the window's end."""
    until, counts = job.window.until, interactions.counts
    manifest = Manifest(
        version="unnamed",
        algorithm=f"lightfm-{job.settings.retrain_loss}",
        trained_at=job.now(),
        data_until=until,
        interaction_count=counts.events + counts.past_events,
        user_count=counts.users,
        video_count=counts.videos,
        dimensions=trained.representations.video_factors.shape[1],
        popularity_weight=trained.popularity_weight,
        popularity_floor=POPULARITY_FLOOR,
        popularity_half_life_s=job.settings.popularity_half_life().total_seconds(),
        metrics=trained.evaluation.metrics() if trained.evaluation else {},
        parent=job.record.parent,
    )
    return Model(
        manifest=manifest,
        users=interactions.users(),
        videos=interactions.videos(),
        user_factors=trained.representations.user_factors,
        user_biases=trained.representations.user_biases,
        video_factors=trained.representations.video_factors,
        video_biases=trained.representations.video_biases,
        popularity=interactions.popularity(until, half_life=job.settings.popularity_half_life()),
        seen=interactions.seen(until),
        catalogue=interactions.catalogue(),
    )


def utc_now() -> datetime:
    """Return the time of day."""
    return datetime.now(UTC)
