"""What holds for the settings of all programs."""

import ast
import inspect
import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final, get_args

import pytest
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from servicekit.configuration.setting_names import ELSEWHERE, FORMER, OWN, SETTING_NAMES, SHARED
from servicekit.configuration.settings import Settings, former_names

ROOT: Final = Path(__file__).parents[2]
CODE: Final = ("bridge", "benchmarks", "deploy", "modelstore", "recsvc", "retrain", "servicekit")
FILES: Final = ("bridge.feed.experiments",)
"""Modules with classes of files that are settings in disguise."""


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def settings_modules() -> list[str]:
    """Return the modules that define settings, wherever they are."""
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path, module in sources()
        for node in ast.walk(module)
        if isinstance(node, ast.ClassDef)
        and any(isinstance(base, ast.Name) and base.id.endswith("Settings") for base in node.bases)
    ]


def settings_classes() -> list[type[Settings]]:
    members = (inspect.getmembers(import_module(name), inspect.isclass) for name in sorted({*settings_modules()}))
    found = {one for group in members for _, one in group if issubclass(one, Settings) and one is not Settings}
    return sorted(found, key=lambda one: one.__name__)


def models() -> list[type[BaseModel]]:
    files = (inspect.getmembers(import_module(name), inspect.isclass) for name in FILES)
    return [
        *settings_classes(),
        *(one for group in files for _, one in group if issubclass(one, BaseModel) and one is not BaseModel),
    ]


def test_the_settings_are_found() -> None:
    names = {one.__name__ for one in settings_classes()}
    assert {"BridgeSettings", "RecsvcSettings", "RetrainSettings", "ExportSettings", "KafkaSettings"} <= names


def parts(field: FieldInfo) -> tuple[set[Any], list[Any]]:
    """Return the types that a field may have, and what is said of its values."""
    kinds, marks = {field.annotation}, list(field.metadata)
    for part in get_args(field.annotation):
        kinds |= {part, getattr(part, "__origin__", None)}
        marks += getattr(part, "__metadata__", ())
    return kinds, marks


@pytest.mark.parametrize("model", models(), ids=lambda one: one.__name__)
def test_every_number_has_bounds(model: type[BaseModel]) -> None:
    """Without them a setting may be nan, infinite, below zero, or so small that a loop never rests."""
    wrong = []
    for name, field in model.model_fields.items():
        kinds, marks = parts(field)
        if not kinds & {int, float}:
            continue
        if not any(isinstance(mark, Ge | Gt) for mark in marks) or not any(isinstance(mark, Le | Lt) for mark in marks):
            wrong.append(f"{name} needs ge=... and le=...")
        if float in kinds and any(isinstance(mark, Gt | Lt) for mark in marks):
            wrong.append(f"{name} needs ge=... in place of gt=0: the least double above 0 is no setting")
        if float in kinds and not any(getattr(mark, "allow_inf_nan", None) is False for mark in marks):
            wrong.append(f"{name} must be a servicekit.configuration.setting_types.Number")
    assert not wrong


@pytest.mark.parametrize("settings", settings_classes(), ids=lambda one: one.__name__)
def test_every_setting_that_is_no_plain_text_has_a_type_that_checks_it(settings: type[Settings]) -> None:
    """A URL, an address or a path is looked at when the program starts, not when it is used."""
    wrong = [
        name
        for name, field in settings.model_fields.items()
        if re.search(r"_(url|path|dir|endpoint|servers|listen|file)$", name)
        and not [mark for mark in parts(field)[1] if type(mark).__name__ == "AfterValidator"]
    ]
    assert not wrong


def test_every_setting_is_known_to_all_programs() -> None:
    fields = {name.upper() for settings in settings_classes() for name in settings.model_fields}
    assert fields == SETTING_NAMES, "servicekit.configuration.setting_names.SETTING_NAMES lists all settings"


def test_every_former_name_is_known_to_all_programs() -> None:
    former = {name for settings in settings_classes() for name in former_names(settings)}
    assert former == FORMER, "servicekit.configuration.setting_names.FORMER lists the former names of all settings"
    assert not former & SETTING_NAMES


def test_whatever_else_is_read_from_the_environment_is_known() -> None:
    """A benchmark's variable with a program's prefix would end that program's start."""
    read = {
        node.value
        for _, module in sources()
        for call in ast.walk(module)
        if isinstance(call, ast.Call) and re.search(r"environ|knob", ast.unparse(call.func))
        for node in call.args[:1]
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert read, "nothing is found"
    assert {name for name in read if name.startswith((*OWN, *SHARED))} <= SETTING_NAMES | FORMER | ELSEWHERE


def test_defaults_are_within_their_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for settings in settings_classes():
        for name, field in settings.model_fields.items():
            default = field.get_default(call_default_factory=True, validated_data={})
            if not field.is_required() and default is not None and not isinstance(default, tuple):
                monkeypatch.setenv(name.upper(), json.dumps(default) if isinstance(default, bool) else str(default))
            elif field.is_required():
                url = "postgresql://h/d" if name == "database_url" else "file:///folder"
                monkeypatch.setenv(name.upper(), url)
        settings()


def test_what_deployments_set_is_known() -> None:
    """A name that manifests and documents spell wrong would end the start of a program."""
    files = [ROOT / "docker-compose.yml", ROOT / "README.md", ROOT / "Makefile", *(ROOT / "deploy").rglob("*.*")]
    kinds = {".yml", ".yaml", ".md", ".service", ""}
    texts = [path.read_text(encoding="utf-8") for path in files if path.suffix in kinds and path.is_file()]
    names = "|".join(one + "[A-Z0-9_]+" for one in OWN)
    pattern = rf"(?m)(?:^|[\s`;-])({names})(?==|:\s)|name: ({names})$"
    told = {name for text in texts for found in re.findall(pattern, text) for name in found if name}
    assert "RECSVC_LISTEN" in told
    assert {name.removesuffix("_FILE") for name in told} <= SETTING_NAMES | FORMER | ELSEWHERE


LEANING: Final = re.compile(r"(for|how|its|so|the same|their|these|this|what|when|where|who|whose)\b")
"""Beginnings of a description that mean nothing without the one before it: settings are sorted and searched."""


def test_a_description_stands_by_itself() -> None:
    found = {
        name.upper(): field.description
        for settings in settings_classes()
        for name, field in settings.model_fields.items()
        if not field.description or LEANING.match(field.description)
    }
    assert found == {}
