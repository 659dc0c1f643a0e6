"""Formats a run for people: the plan before it, the counts and the quality after it."""

from collections.abc import Iterable, Sequence

from retrain.data.exports import Window
from retrain.data.input_files import CATALOGUE_FILE, HISTORY_FILE, InputFiles
from retrain.data.prepare import Counts
from retrain.evaluation.held_out_day import PAGE_SIZE, Evaluation
from retrain.evaluation.metrics import Quality
from retrain.pipeline.stages import Result
from retrain.settings import RetrainSettings
from retrain.training.warm_start import WarmStart


def plan(settings: RetrainSettings, window: Window, source: InputFiles, start: WarmStart) -> str:
    """Return the plan of a run."""
    days = f"{window.days[0].day} to {window.last} ({len(window.days)} days, {len(window.keys)} files)"
    warm = f"what is new and {settings.retrain_replayed_share:g} of everything"
    passes = f"{settings.epochs(warm=start.is_wanted)} epochs over {warm if start.is_wanted else 'each day'}"
    rows = [
        ("exports", f"{settings.interactions_url}, {days}"),
        *([("incomplete", ", ".join(map(str, window.incomplete)) + " (left out)")] if window.incomplete else []),
        ("catalogue", _where(source.catalogue is not None, settings, CATALOGUE_FILE)),
        ("history", _where(source.history is not None, settings, HISTORY_FILE)),
        ("fit", f"LightFM {settings.retrain_loss}, {settings.retrain_factors} factors, {passes}"),
        ("warm start", f"{'yes' if start.is_wanted else 'no'}: {start.reason}"),
        ("threads", str(settings.retrain_threads)),
        ("publish to", settings.model_store_url),
    ]
    return "Plan\n" + "\n".join(f"  {name:11} {text}" for name, text in rows)


def summary(result: Result) -> str:
    """Return the summary of a run."""
    parts = []
    if result.interactions:
        parts.append(_counts(result.interactions.counts))
        parts.append(quality_table(result.evaluation) if result.evaluation else NOT_EVALUATED)
    else:
        parts.append(
            "Nothing to do: this input was trained on before with these settings (--again trains all the same)."
        )
    parts.append(f"Model {result.publication.version}: {result.publication.outcome.value}")
    return "\n\n".join(parts)


NOT_EVALUATED = (
    "Quality: not measured, as no user liked anything new on the last day after an earlier one to learn from."
)


def quality_table(evaluation: Evaluation) -> str:
    """Return the quality of the ways to rank, side by side."""
    header = ("", f"recall@{PAGE_SIZE}", f"NDCG@{PAGE_SIZE}", "coverage", "popular share")
    named = {
        "LightFM + popularity prior": evaluation.lightfm_prior,
        "LightFM": evaluation.lightfm,
        "decayed popularity": evaluation.popularity,
    }
    rows = [header, *((name, *_cells(quality)) for name, quality in named.items())]
    title = f"Quality on the last day, unseen videos, {evaluation.users:,} users"
    return f"{title}\n{_table(rows)}\n{_comparison(evaluation)}"


def _comparison(evaluation: Evaluation) -> str:
    baseline = evaluation.popularity.ndcg
    if not baseline:
        return "  popularity ranks nothing that was liked"
    return f"  NDCG@{PAGE_SIZE} is {evaluation.lightfm_prior.ndcg / baseline:.2f} times that of decayed popularity"


def _cells(quality: Quality) -> tuple[str, ...]:
    return (f"{quality.recall:.4f}", f"{quality.ndcg:.4f}", f"{quality.coverage:,}", f"{quality.popularity_share:.3f}")


def _counts(counts: Counts) -> str:
    broken = sum(counts.broken.values())
    reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in counts.broken.items())
    histories = f" and {counts.past_events:,} videos of users' histories" if counts.past_events else ""
    rows = [
        ("rows read", f"{counts.read:,}"),
        ("repeated", f"{counts.repeated:,}"),
        ("broken", f"{broken:,}" + (f" ({reasons})" if reasons else "")),
        ("interactions", f"{counts.events:,}" + histories),
        ("users", f"{counts.users:,}"),
        ("videos", f"{counts.videos:,}"),
    ]
    return "Data\n" + "\n".join(f"  {name:13} {text}" for name, text in rows)


def _table(rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"  {name:27}" + "".join(f"{cell:>14}" for cell in cells) for name, *cells in rows)


def _where(found: bool, settings: RetrainSettings, name: str) -> str:  # noqa: FBT001  # one of two texts
    if settings.catalogue_url is None:
        return "none (CATALOGUE_URL is not set)"
    return f"{settings.catalogue_url}/{name}" if found else f"none ({settings.catalogue_url} has no {name})"
