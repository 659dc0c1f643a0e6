"""Both servers of threads, which are held to the same promises where public gRPC lets the plain one keep them."""

from typing import Final

from servicekit.server.plain_server import PlainServer
from servicekit.server.thread_server import ThreadServer

KINDS: Final[dict[str, type[ThreadServer] | type[PlainServer]]] = {"direct": ThreadServer, "plain": PlainServer}
