"""What the README says of the programs is what they are."""

from pathlib import Path

import pytest

from bridge.settings import BridgeSettings
from recsvc.settings import RecsvcSettings
from retrain.settings import RetrainSettings
from servicekit.settings import Settings

README = Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("settings", [RecsvcSettings, BridgeSettings, RetrainSettings])
def test_the_configuration_table_names_every_variable(settings: type[Settings]) -> None:
    """A program's table in the README is the one that its settings describe."""
    assert settings.table() in README


def test_no_placeholder_is_left() -> None:
    assert "@@" not in README
