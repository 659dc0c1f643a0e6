"""Generates the page of the settings from the classes that read them."""

from bridge.settings import BridgeSettings
from docs.generate import markdown
from recsvc.settings import RecsvcSettings
from retrain.settings import ExportSettings, RetrainSettings
from servicekit.configuration.settings import Settings

INTRODUCTION = """Programs read their settings from environment variables when they start. `NAME_FILE=/path` gives
`NAME` from a file, for secrets. What becomes of files that change later is in
[deployment](../operations/deploy.md#renewal-of-certificates-and-passwords). A sequence is written as JSON, a boolean as
`true` or `false`. A variable that looks like a setting and is none ends the start; see
[deployment](../operations/deploy.md#settings)."""

PROGRAMS: dict[str, type[Settings]] = {
    "recsvc": RecsvcSettings,
    "bridge": BridgeSettings,
    "retrain": RetrainSettings,
    "retrain export": ExportSettings,
}


def text() -> str:
    """Return the text of the page."""
    parts = [f"## {program}\n\n{settings.table()}" for program, settings in PROGRAMS.items()]
    return markdown.page("Settings", INTRODUCTION, *parts)
