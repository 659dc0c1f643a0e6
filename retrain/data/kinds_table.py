"""Creates the table `kinds` of a scratch database: the weights of each type of interaction."""

from typing import Any

from modelstore.interaction_weights import PREFERENCE_WEIGHTS
from retrain.data.duckdb_session import DuckDbSession


def create_kinds(warehouse: DuckDbSession) -> None:
    """Create the table, from the weights that fold-in uses too."""
    warehouse.run("kinds", kinds=kind_rows())


def kind_rows() -> list[dict[str, Any]]:
    """Return the rows of the table."""
    return [
        {"kind": number, "name": str(kind), **weight._asdict()}
        for number, (kind, weight) in enumerate(PREFERENCE_WEIGHTS.items())
    ]
