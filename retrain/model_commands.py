"""The commands on models that are there already: sign, make live."""

import argparse
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recsvc.signature import SigningKey
from retrain.exit_status import BAD_INPUT, FAILED
from retrain.failure import RunFailure
from retrain.settings import StoreSettings
from servicekit.objectstore import open_store
from servicekit.settings import fail


def add(commands: Any) -> None:
    """Add them to a parser's commands."""
    activate = _command(commands, "activate", "make a published version live: roll back, or on", _activate)
    activate.add_argument("version", help="name of a published version")
    activate.add_argument("--pin", action="store_true", help="keep it live when newer versions are published")
    key = commands.add_parser("key", help="make a key pair to sign models with")
    key.add_argument("path", type=Path, help="file for the private key; the public one goes to <path>.pub")
    key.set_defaults(command=_key)
    sign = _command(commands, "sign", "sign a version that was published before there was a key", _sign)
    sign.add_argument("version", help="name of a published version")


def _command(
    commands: Any, name: str, text: str, command: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        epilog="environment:\n" + StoreSettings.describe(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=command)
    return parser


def _activate(options: argparse.Namespace) -> int:
    settings = StoreSettings.load()
    from retrain.rollback import activate_version  # noqa: PLC0415  # imports numpy

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
    from retrain.rollback import sign_version  # noqa: PLC0415  # imports numpy

    key = settings.signing_key() or fail("MODEL_SIGNING_KEY: Field required")

    def sign() -> str:
        sign_version(open_store(settings.model_store_url), options.version, key=key, now=datetime.now(UTC))
        return f"Model {options.version}: signed"

    return _told(sign)


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
    """Write a file that must not be there yet."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as handle:
        handle.write(data)


def _told(command: Callable[[], str]) -> int:
    """Do it, print what came of it, and return the exit status."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  # slow to import

    try:
        print(command())  # noqa: T201  # the program's output
    except (RunFailure, OSError, BotoCoreError, ClientError) as failure:
        sys.stderr.write(f"error: {failure}\n")
        return FAILED
    return 0
