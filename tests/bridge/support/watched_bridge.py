"""The bridge with a watch on its event loop: what could wait for a disk or a name is written down, with where it was.

Python tells an audit hook of each file that is opened and of each lookup, whoever does it. `WATCHED` names the file
that gets the findings when the bridge ends.
"""

import asyncio
import atexit
import json
import os
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, Final

from bridge import __main__ as bridge
from servicekit.server.grpc_server import AioServer

MAX_FRAMES: Final = 16
BLOCKING: Final = frozenset(
    {
        "glob.glob",
        "http.client.connect",
        "open",
        "os.listdir",
        "os.mkdir",
        "os.remove",
        "os.rename",
        "os.scandir",
        "shutil.rmtree",
        "socket.getaddrinfo",
        "socket.gethostbyaddr",
        "socket.gethostbyname",
        "sqlite3.connect",
        "subprocess.Popen",
        "tempfile.mkstemp",
        "time.sleep",
        "urllib.Request",
    }
)


def watch(found: list[dict[str, Any]]) -> None:
    """Note what blocks the event loop of the main thread from now on."""

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in BLOCKING or threading.current_thread() is not threading.main_thread():
            return
        if asyncio._get_running_loop() is not None:
            found.append({"event": event, "arguments": repr(arguments)[:200], "place": _place()})

    sys.addaudithook(note)


def _place() -> list[str]:
    """Return where the caller's caller is, innermost first: not by `traceback`, which opens sources."""
    frame: FrameType | None = sys._getframe(2)
    place: list[str] = []
    while frame is not None and len(place) < MAX_FRAMES:
        place.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return place


def main() -> None:
    """Run the bridge, watched from when it serves."""
    found: list[dict[str, Any]] = []
    set_serving = AioServer.set_serving

    async def then_watch(self: AioServer, *, serving: bool) -> None:
        await set_serving(self, serving=serving)
        if serving:
            watch(found)

    AioServer.set_serving = then_watch  # type: ignore[method-assign]
    path = Path(os.environ.pop("WATCHED"))
    atexit.register(lambda: path.write_text(json.dumps(found, indent=2), encoding="utf-8"))
    sys.exit(bridge.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
