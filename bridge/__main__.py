"""`python -m bridge`: start the gateway, and end it cleanly on SIGTERM or Ctrl-C; or run an operator's command."""

import argparse
import sys
from collections.abc import Callable, Sequence

import psycopg
import uvloop

from bridge.app.admin_commands import run_dead_letters, run_erase, run_migrate, run_topics
from bridge.app.serving import serve
from bridge.app.trending_commands import run_recompute
from bridge.settings import BridgeSettings
from servicekit.configuration.arguments import identifier
from servicekit.configuration.command_line import Command, CommandLine
from servicekit.configuration.settings import fail
from servicekit.process.listening import wait_until_free
from servicekit.telemetry.logs import configure_logs

_WithSettings = Callable[[BridgeSettings, argparse.Namespace], int]


def main(arguments: Sequence[str]) -> int:
    """Run a command and return its exit status; `serve` is the one that is meant where none is named."""
    return _command_line().run(arguments)


def _command_line() -> CommandLine:
    commands = CommandLine(
        "bridge", "Serve the feed and take in interactions over gRPC.", BridgeSettings, default="serve"
    )

    def add(
        name: str, text: str, command: Callable[[BridgeSettings, argparse.Namespace], int]
    ) -> argparse.ArgumentParser:
        return commands.add(name, text, _with_settings(command), BridgeSettings)

    add("serve", "serve until told to stop (the default)", _serve)
    add("migrate", "bring the database schema up to date", lambda settings, _: run_migrate(settings))
    add("topics", "make or check the Kafka topics", lambda settings, _: run_topics(settings))
    erase = add("erase", "forget a user", _erase)
    erase.add_argument("--user", type=identifier, metavar="ID", required=True, help="the user to erase")
    erase.add_argument("--dry-run", action="store_true", help="print what would be deleted, and delete nothing")
    erase.add_argument("--force", action="store_true", help="send tombstones even if no table has rows of the user")
    add(
        "dead-letters", "show what could not be processed", lambda settings, _: run_dead_letters(settings, replay=False)
    )
    add("replay", "send what could not be processed again", lambda settings, _: run_dead_letters(settings, replay=True))
    trending = add("trending", "count what trends anew", _trending)
    trending.add_argument("action", choices=["recompute"], help="count anew from the stored interactions")
    trending.add_argument("--dry-run", action="store_true", help="say what would be read, and change nothing")
    return commands


def _with_settings(command: _WithSettings) -> Command:
    """Return a command that is given the settings, and ends with one line where it cannot do its work."""

    def run(options: argparse.Namespace) -> int:
        settings = BridgeSettings.load()
        configure_logs(settings.log_level, service="bridge")
        try:
            return command(settings, options)
        except psycopg.OperationalError as error:
            fail(" ".join(str(error).split()))
        except (OSError, RuntimeError, ValueError) as error:
            fail(str(error))

    return run


def _serve(settings: BridgeSettings, _: argparse.Namespace) -> int:
    wait_until_free(settings.bridge_listen)
    uvloop.run(serve(settings))
    return 0


def _erase(settings: BridgeSettings, options: argparse.Namespace) -> int:
    return run_erase(settings, options.user, dry_run=options.dry_run, force=options.force)


def _trending(settings: BridgeSettings, options: argparse.Namespace) -> int:
    return run_recompute(settings, dry_run=options.dry_run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
