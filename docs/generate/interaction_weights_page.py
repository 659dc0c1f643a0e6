"""Generates the page of the weights of interactions, for fold-in and for training."""

from docs.generate import markdown
from modelstore.interaction_weights import LONG_WATCH_MS, MAX_WEIGHT, PREFERENCE_WEIGHTS

INTRODUCTION = f"""What an interaction says of a user's liking. Training and fold-in use the same numbers; training
has no negatives. `watched` is further weight, in proportion to the watched share of the video or of its first
{LONG_WATCH_MS / 1000:g} seconds. One video counts at most {MAX_WEIGHT:g} in all. A rating counts
(rating / 2.5) - 1, from 0 to 5 stars. Trending has weights of its own: see `bridge/trending/formula.py`."""


def text() -> str:
    """Return the text of the page."""
    rows = [
        (
            f"`{kind.value}`",
            f"{meaning.value:g}",
            f"{meaning.watched:g}",
            f"{meaning.against:g}",
            "yes" if meaning.takes_back else "no",
        )
        for kind, meaning in PREFERENCE_WEIGHTS.items()
    ]
    header = ("type", "weight", "watched", "weight against", "cancels what was said before")
    return markdown.page("Interaction weights", INTRODUCTION, markdown.table(header, rows))
