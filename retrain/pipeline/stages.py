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


def run(context: RunContext, *, again: bool = False) -> Result:
    """Train, evaluate and publish; on RunError the live model stays.

    Args:
        context: Settings, input and collaborators of the run.
        again: Train even when the same recipe was published before.
    """
    work = WorkIdentity(
        parent=live_version(context.registry), input_digest=recipe_digest(context.source, context.settings.recipe())
    )
    context.observer.note(work)
    prefix = name_prefix(context.window.until, work.input_digest)
    published = None if again else find_published(context.registry, prefix)
    if published:
        context.observer.note(Named(published))
        publication = activate(context.registry, published, now=context.now(), fence=context.fence)
        return Result(publication=publication, interactions=None, evaluation=None)
    with context.start_smoke_server() as server:
        learnt = _learnt(context, work)
        written = _written(context, learnt.model, prefix)
        _smoke(context, server, written.folder)
    publication = _published(context, written)
    _save(context, work, learnt.trained.checkpoint, publication.version)
    return Result(publication=publication, interactions=learnt.interactions, evaluation=learnt.trained.evaluation)


def _learnt(context: RunContext, work: WorkIdentity) -> Learnt:
    """Return the data of the exports, the result of training, and the model of both."""
    observer = context.observer
    with context.open_session() as session:
        with _loading():
            interactions = _prepared(context, session)
            _check_data(context, interactions)
        with observer.stage("gate"):
            live_model = load_live_model(
                context.registry, context.folder / "live", interactions.users(), interactions.videos()
            )
        trained = train(context, work, interactions, live_model)
        model = assemble(context, interactions, trained, parent=work.parent)
        with observer.stage("showcase"):
            observer.note(_showcase(context, interactions, trained, model, live_model))
    return Learnt(interactions=interactions, trained=trained, model=model)


def _prepared(context: RunContext, session: DuckDbSession) -> Interactions:
    with context.observer.stage("prepare"):
        interactions = prepare(context.source, context.window, session)
    counts = interactions.counts
    context.observer.note(counts)
    logger.info("interactions.prepared", events=counts.events, broken=counts.broken)
    return interactions


def _written(context: RunContext, model: Model, prefix: str) -> WrittenModel:
    folder = context.folder / "model"
    with context.observer.stage("write"):
        manifest = write_verified(model, prefix, folder)
    context.observer.note(Named(manifest.version))
    return WrittenModel(manifest=manifest, folder=folder)


def _published(context: RunContext, written: WrittenModel) -> Publication:
    with context.observer.stage("publish"):
        return publish(
            context.registry,
            written.folder,
            written.manifest,
            now=context.now(),
            key=context.settings.signing_key(),
            fence=context.fence,
        )


@contextmanager
def _loading() -> Iterator[None]:
    """Load or compile Numba's functions in a thread, while the database works."""
    with ThreadPoolExecutor(1) as pool:
        loading = [pool.submit(load) for load in (warp_kernel.load, page_ranking.load)]
        yield
    for one in loading:
        one.result()  # raises what the thread raised


def _save(context: RunContext, work: WorkIdentity, checkpoint: Checkpoint, version: str) -> None:
    """Save the state of training for the next run, which can do without it."""
    with context.observer.stage("checkpoint"):
        if context.kept:
            begin = f"{work.input_digest}-"
            with suppress(OSError):  # there may be none, and others may have theirs in it
                for done in [folder for folder in context.kept.iterdir() if folder.name.startswith(begin)]:
                    shutil.rmtree(done, ignore_errors=True)
                context.kept.rmdir()
        if context.checkpoints:
            with best_effort("checkpoint.not_saved", context.observer):
                context.checkpoints.save(checkpoint.named(version))
                context.checkpoints.prune(context.registry.versions())


def _smoke(context: RunContext, server: SmokeServer | None, folder: Path) -> None:
    """Test the written model in a server; RunError when a page is wrong."""
    with context.observer.stage("smoke"):
        if server is None:
            return
        try:
            with closing(server):  # its end is of this stage
                smoke = server.test(folder)
        except RunError as failure:
            logger.warning("gate.smoke", problem=str(failure), forced=context.force)
            if not context.force:
                raise
        else:
            context.observer.note(smoke)
            logger.info("gate.smoked", **asdict(smoke))


def _check_data(context: RunContext, interactions: Interactions) -> None:
    """Record the gate's findings in the data; RunError when the gate refuses them."""
    with context.observer.stage("gate"):
        found = _data_findings(interactions)
    context.observer.note(found)
    for problem in found.problems:
        logger.warning("gate.data", problem=problem, forced=context.force)
    if found.problems and not context.force:
        raise RunError(Reason.GATE, f"{'; '.join(found.problems)} (--force trains on it all the same)")


def _data_findings(interactions: Interactions) -> DataFindings:
    counts, days = interactions.counts, tuple(interactions.days())
    broken = sum(counts.broken.values())
    problems = data_problems(days, read=counts.read, broken=broken, repeated=counts.repeated)
    return DataFindings(days=days, problems=tuple(problems))


def _showcase(
    context: RunContext, interactions: Interactions, trained: Trained, model: Model, live_model: LiveModel | None
) -> Showcase:
    """Return pages as they will be served, beside those of the model that is live until then."""
    return showcase(
        interactions,
        HeldOutDay.after(model.seen, model.popularity),
        trained.representations.scores,
        trained.popularity_weight,
        live_model,
        since=context.window.until,
        threads=context.settings.retrain_threads,
        seed=context.settings.retrain_seed,
    )


def assemble(context: RunContext, interactions: Interactions, trained: Trained, *, parent: str | None) -> Model:
    """Return the model of all knowledge at the window's end."""
    until, counts = context.window.until, interactions.counts
    manifest = Manifest(
        version="unnamed",
        algorithm=f"lightfm-{context.settings.retrain_loss}",
        trained_at=context.now(),
        data_until=until,
        interaction_count=counts.events + counts.past_events,
        user_count=counts.users,
        video_count=counts.videos,
        dimensions=trained.representations.video_factors.shape[1],
        popularity_weight=trained.popularity_weight,
        popularity_floor=POPULARITY_FLOOR,
        popularity_half_life_s=context.settings.popularity_half_life().total_seconds(),
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
        popularity=interactions.popularity(until, half_life=context.settings.popularity_half_life()),
        seen=interactions.seen(until),
        catalogue=interactions.catalogue(),
    )


def utc_now() -> datetime:
    """Return the present time, UTC."""
    return datetime.now(UTC)
