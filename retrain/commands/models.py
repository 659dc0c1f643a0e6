"""Defines the commands on existing models: sign, activate, import from a pickle."""

import argparse
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from modelstore.signature import SigningKey
from retrain.errors import RunError
from retrain.exit_status import BAD_INPUT, FAILED
from retrain.settings import StoreSettings
from servicekit.configuration.command_line import CommandLine
from servicekit.configuration.settings import fail
from servicekit.storage.object_store import open_store


def add(commands: CommandLine) -> None:
    """Add the commands to the program's."""
    activate = commands.add("activate", "make a published version live: roll back, or on", _activate, StoreSettings)
    activate.add_argument("version", help="name of a published version")
    activate.add_argument("--pin", action="store_true", help="keep it live when newer versions are published")
    key = commands.add("key", "make a key pair to sign models with", _key)
    key.add_argument("path", type=Path, help="file for the private key; the public one goes to <path>.pub")
    sign = commands.add("sign", "sign a version that was published before there was a key", _sign, StoreSettings)
    sign.add_argument("version", help="name of a published version")
    bring = commands.add(
        "import-lightfm",
        "publish a LightFM model that was pickled elsewhere",
        _import_lightfm,
        StoreSettings,
    )
    bring.add_argument(
        "pickle", type=Path, help="the model, alone or in a tuple, list or dict beside its Dataset or mapping()"
    )
    bring.add_argument("--trust-pickle", action="store_true", help="say that the maker of the file is trusted")
    for name, meaning in IMPORTED:
        bring.add_argument(f"--{name}", type=Path, metavar="FILE", help=meaning)
    bring.add_argument(
        "--trained-at", type=_instant, metavar="TIME", help="ISO 8601, UTC (default: when the pickle was written)"
    )


IMPORTED: Final = (
    ("users", "identifiers in the model's order: JSON list or object of positions, .npy, or one a line"),
    ("items", "the same of videos"),
    ("user-features", "matrix of users x features that it was fitted with, of scipy.sparse.save_npz"),
    ("item-features", "the same of videos"),
    ("interactions", "matrix of users x videos of what was seen, likewise"),
)
UNTRUSTED: Final = (
    "reading a pickle runs whatever code it brings, with all rights of this account: "
    "--trust-pickle says that the maker of {path} is trusted; nothing was read"
)


def _activate(options: argparse.Namespace) -> int:
    settings = StoreSettings.load()
    from retrain.publishing.activate import activate_version  # noqa: PLC0415  # imports numpy

    key = settings.signing_key()

    def activate() -> str:
        activate_version(
            open_store(settings.model_store_url),
            options.version,
            pin=options.pin,
            now=datetime.now(UTC),
            verifier=key.verifier() if key else None,
        )
        return f"Model {options.version}: live{', pinned' if options.pin else ''}"

    return _told(activate)


def _sign(options: argparse.Namespace) -> int:
    settings = StoreSettings.load()
    from retrain.publishing.activate import sign_version  # noqa: PLC0415  # imports numpy

    key = settings.signing_key() or fail("MODEL_SIGNING_KEY: Field required")

    def sign() -> str:
        sign_version(open_store(settings.model_store_url), options.version, key=key, now=datetime.now(UTC))
        return f"Model {options.version}: signed"

    return _told(sign)


def _import_lightfm(options: argparse.Namespace) -> int:
    settings = StoreSettings.load()
    if not options.trust_pickle:
        sys.stderr.write(f"error: {UNTRUSTED.format(path=options.pickle)}\n")
        return BAD_INPUT
    from modelstore.registry import Registry  # noqa: PLC0415  # imports numpy
    from retrain.importers.lightfm_model import Source, import_lightfm  # noqa: PLC0415  # imports LightFM

    key = settings.signing_key()
    files = {name.replace("-", "_"): getattr(options, name.replace("-", "_")) for name, _ in IMPORTED}

    def bring() -> str:
        trained_at = options.trained_at or datetime.fromtimestamp(options.pickle.stat().st_mtime, UTC)
        registry = Registry(open_store(settings.model_store_url), key.verifier() if key else None)
        source = Source(pickle=options.pickle, **files)
        publication = import_lightfm(source, registry, trained_at=trained_at, now=datetime.now(UTC), key=key)
        return f"Model {publication.version}: {publication.outcome.value}"

    return _told(bring)


def _instant(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _key(options: argparse.Namespace) -> int:
    key, path = SigningKey.generate(), options.path
    public = path.with_name(f"{path.name}.pub")
    try:
        _create(public, key.public_pem(), 0o644)
        try:
            _create(path, key.private_pem(), 0o600)
        except OSError:
            public.unlink()
            raise
    except OSError as error:
        sys.stderr.write(f"error: {error.strerror}: {error.filename}\n")
        return BAD_INPUT
    print(f"MODEL_SIGNING_KEY_FILE={path}   for retrain; keep it secret\nMODEL_VERIFY_KEY_FILE={public}   for recsvc")  # noqa: T201  # the program's output
    return 0


def _create(path: Path, data: bytes, mode: int) -> None:
    """Write a new file; FileExistsError if it exists."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as handle:
        handle.write(data)


def _told(command: Callable[[], str]) -> int:
    """Run an action, print its result, and return the exit status."""
    try:
        print(command())  # noqa: T201  # the program's output
    except (RunError, OSError) as failure:
        sys.stderr.write(f"error: {failure}\n")
        return BAD_INPUT if isinstance(failure, RunError) and failure.is_input else FAILED
    return 0
