"""`python -m docs.generate`: write the reference pages; with `--check`, fail when one of them is out of date."""

import argparse
import sys
from collections.abc import Callable
from typing import Final

from docs.generate import (
    command_lines_page,
    exit_statuses_page,
    interaction_weights_page,
    log_events_page,
    metrics_page,
    rpcs_page,
    settings_page,
    source,
)

PAGES: Final[dict[str, Callable[[], str]]] = {
    "settings": settings_page.text,
    "metrics": metrics_page.text,
    "log-events": log_events_page.text,
    "rpcs": rpcs_page.text,
    "command-lines": command_lines_page.text,
    "exit-statuses": exit_statuses_page.text,
    "interaction-weights": interaction_weights_page.text,
}
FOLDER: Final = source.ROOT / "docs" / "reference"


def main() -> int:
    """Write or check the pages, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 when a page is out of date")
    check = parser.parse_args().check
    FOLDER.mkdir(parents=True, exist_ok=True)
    outdated = []
    for name, make in PAGES.items():
        path, text = FOLDER / f"{name}.md", make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            outdated.append(path.relative_to(source.ROOT).as_posix())
            if not check:
                path.write_text(text, encoding="utf-8")
    if check and outdated:
        sys.stderr.write(f"error: out of date: {', '.join(outdated)}; run `make docs`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
