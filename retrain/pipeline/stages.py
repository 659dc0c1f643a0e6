"""Runs training, stage by stage: each takes the result of the one before."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import structlog

from modelstore.artefact import Manifest, Model
from retrain.data.duckdb_session import DuckDbSession
from retrain.data.prepare import Interactions, prepare
from retrain.errors import Reason, RunError
from retrain.evaluation import page_ranking
from retrain.evaluation.held_out_day import POPULARITY_FLOOR, HeldOutDay
from retrain.evaluation.live_model import LiveModel, load_live_model
from retrain.gates.data_gate import data_problems
from retrain.gates.smoke_test import SmokeServer
from retrain.pipeline.best_effort import best_effort
from retrain.pipeline.context import RunContext
from retrain.pipeline.observer import Named
from retrain.pipeline.results import DataFindings, Learnt, Result, Trained, WorkIdentity, WrittenModel
from retrain.pipeline.train import train
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


def run(job: RunContext, *, again: bool = False) -> Result:
    """Train, evaluate and publish; on RunError the live model stays.

    Args:
        job: What to work with.
        again: Train even when the same recipe was published before.
    """
    work = WorkIdentity(
        parent=live_version(job.registry), input_digest=recipe_digest(job.source, job.settings.recipe())
    )
    job.observer.note(work)
    prefix = name_prefix(job.window.until, work.input_digest)
    published = None if again else find_published(job.registry, prefix)
    if published:
        job.observer.note(Named(published))
        publication = activate(job.registry, published, now=job.now(), fence=job.fence)
        return Result(publication=publication, interactions=None, evaluation=None)
    with job.start_smoke_server() as server:
        learnt = _learnt(job, work)
        written = _written(job, learnt.model, prefix)
        _smoke(job, server, written.folder)
    publication = _published(job, written)
    _save(job, work, learnt.trained.checkpoint, publication.version)
    return Result(publication=publication, interactions=learnt.interactions, evaluation=learnt.trained.evaluation)


def _learnt(job: RunContext, work: WorkIdentity) -> Learnt:
    """Return the data of the exports, the result of training, and the model of both."""
    observer = job.observer
    with job.open_session() as session:
        with _loading():
            interactions = _prepared(job, session)
            _check_data(job, interactions)
        with observer.stage("gate"):
            live_model = load_live_model(job.registry, job.folder / "live", interactions.users(), interactions.videos())
        trained = train(job, work, interactions, live_model)
        model = assemble(job, interactions, trained, parent=work.parent)
        with observer.stage("showcase"):
            observer.note(_showcase(job, interactions, trained, model, live_model))
    return Learnt(interactions=interactions, trained=trained, model=model)


def _prepared(job: RunContext, session: DuckDbSession) -> Interactions:
    with job.observer.stage("prepare"):
        interactions = prepare(job.source, job.window, session)
    counts = interactions.counts
    job.observer.note(counts)
    logger.info("interactions.prepared", events=counts.events, broken=counts.broken)
    return interactions


def _written(job: RunContext, model: Model, prefix: str) -> WrittenModel:
    folder = job.folder / "model"
    with job.observer.stage("write"):
        manifest = write_verified(model, prefix, folder)
    job.observer.note(Named(manifest.version))
    return WrittenModel(manifest=manifest, folder=folder)


def _published(job: RunContext, written: WrittenModel) -> Publication:
    with job.observer.stage("publish"):
        return publish(
            job.registry,
            written.folder,
            written.manifest,
            now=job.now(),
            key=job.settings.signing_key(),
            fence=job.fence,
        )


@contextmanager
def _loading() -> Iterator[None]:
    """Load or compile Numba's functions in a thread, while the database works."""
    with ThreadPoolExecutor(1) as pool:
        loading = [pool.submit(load) for load in (warp_kernel.load, page_ranking.load)]
        yield
    for one in loading:
        one.result()  # raises what the thread raised


def _save(job: RunContext, work: WorkIdentity, checkpoint: Checkpoint, version: str) -> None:
    """Save the state of training for the next run, which can do without it."""
    with job.observer.stage("checkpoint"):
        if job.kept:
            begin = f"{work.input_digest}-"
            with suppress(OSError):  # there may be none, and others may have theirs in it
                for done in [folder for folder in job.kept.iterdir() if folder.name.startswith(begin)]:
                    shutil.rmtree(done, ignore_errors=True)
                job.kept.rmdir()
        if job.checkpoints:
            with best_effort("checkpoint.not_saved", job.observer):
                job.checkpoints.save(checkpoint.named(version))
                job.checkpoints.prune(job.registry.versions())


def _smoke(job: RunContext, server: SmokeServer | None, folder: Path) -> None:
    """Test the written model in a server; RunError when a page is wrong."""
    with job.observer.stage("smoke"):
        if server is None:
            return
        try:
            with closing(server):  # its end is of this stage
                smoke = server.test(folder)
        except RunError as failure:
            logger.warning("gate.smoke", problem=str(failure), forced=job.force)
            if not job.force:
                raise
        else:
            job.observer.note(smoke)
            logger.info("gate.smoked", **asdict(smoke))


def _check_data(job: RunContext, interactions: Interactions) -> None:
    """Record the gate's findings in the data; RunError when the gate refuses them."""
    with job.observer.stage("gate"):
        found = _data_findings(interactions)
    job.observer.note(found)
    for problem in found.problems:
        logger.warning("gate.data", problem=problem, forced=job.force)
    if found.problems and not job.force:
        raise RunError(Reason.GATE, f"{'; '.join(found.problems)} (--force trains on it all the same)")


def _data_findings(interactions: Interactions) -> DataFindings:
    counts, days = interactions.counts, tuple(interactions.days())
    broken = sum(counts.broken.values())
    problems = data_problems(days, read=counts.read, broken=broken, repeated=counts.repeated)
    return DataFindings(days=days, problems=tuple(problems))


def _showcase(
    job: RunContext, interactions: Interactions, trained: Trained, model: Model, live_model: LiveModel | None
) -> Showcase:
    """Return pages as they will be served, beside those of the model that is live until then."""
    return showcase(
        interactions,
        HeldOutDay.after(model.seen, model.popularity),
        trained.representations.scores,
        trained.popularity_weight,
        live_model,
        since=job.window.until,
        threads=job.settings.retrain_threads,
        seed=job.settings.retrain_seed,
    )


def assemble(job: RunContext, interactions: Interactions, trained: Trained, *, parent: str | None) -> Model:
    """Return the model of all knowledge at the window's end."""
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
        parent=parent,
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
    """Return the present time, UTC."""
    return datetime.now(UTC)
