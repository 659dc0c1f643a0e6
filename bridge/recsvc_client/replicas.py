"""Follows the replicas of recsvc: one channel for each address, and addresses that DNS may change."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeAlias

import structlog
from grpc import ChannelConnectivity, aio

from bridge.recsvc_client.channel import keep_connected, open_channel, warm_up
from bridge.recsvc_client.client import RecsvcClient
from servicekit.credentials.tls_files import ClientTls

RESOLVE_S: Final = 10.0
RENEW_S: Final = 5.0
"""Seconds between two attempts to go over to a renewed identity, and as many to connect with it."""
CLOSE_GRACE_S: Final = 1.0

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the IP addresses behind a host and port; OSError when there are none."""

logger = structlog.get_logger(__name__)


async def resolve_by_dns(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a name from the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return sorted({str(address[0]) for *_, address in found})


class ReplicaSet:
    """Keeps the client's channels in step with an endpoint.

    Args:
        client: Calls what is behind the channels.
        endpoint: `host:port`, several of them with commas between, or `dns:///host:port` for each address of a name.
        tls: This program's identity; None for plain text.
        connections: To each address: a server's processes that share its port share connections, not calls.
        on_connected: Called at each new connection to a replica.
        resolve: Looks addresses up.
        sleep: Waits between two looks.
    """

    def __init__(
        self,
        client: RecsvcClient,
        endpoint: str,
        tls: ClientTls | None,
        *,
        connections: int = 1,
        on_connected: Callable[[], None] = lambda: None,
        resolve: Resolve = resolve_by_dns,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._tls = tls
        self._host = ""
        """The name that certificates of what was looked up must bear."""
        self._changing = asyncio.Lock()
        self._renewed = asyncio.Event()
        self._connections = connections
        self._on_connected = on_connected
        self._watches: set[asyncio.Task[None]] = set()
        self._resolve = resolve
        self._sleep = sleep
        self._name = endpoint.removeprefix("dns:///") if endpoint.startswith("dns:///") else ""
        targets = [endpoint] if self._name else static_targets(endpoint)
        self._channels = {target: self._open(target) for target in targets}
        client.use(self.channels)

    @property
    def channels(self) -> list[aio.Channel]:
        """Return the present channels."""
        return [channel for channels in self._channels.values() for channel in channels]

    async def warm_up(self, timeout_s: float) -> bool:
        """Connect before the first user comes; return whether any replica answered in time."""
        return any(await asyncio.gather(*[warm_up(channel, timeout_s) for channel in self.channels]))

    async def close(self) -> None:
        """Close all channels."""
        for channel in self.channels:
            await channel.close()

    def renew(self, tls: ClientTls) -> None:
        """Use this identity for new channels from now on, and soon for all."""
        self._tls = tls
        self._renewed.set()

    async def keep_renewed(self) -> None:
        """Switch to each renewed identity without a failed call; forever."""
        while True:
            await self._renewed.wait()
            self._renewed.clear()
            while not await self._go_over() and not self._renewed.is_set():
                await self._sleep(RENEW_S)

    async def keep_resolved(self) -> None:
        """Follow the name's addresses, where the endpoint is a name; forever."""
        while True:
            if self._name:
                await self.resolve_once()
            await self._sleep(RESOLVE_S)

    async def resolve_once(self) -> None:
        """Resolve the name now; if that fails, keep the addresses."""
        host, _, port = self._name.rpartition(":")
        try:
            addresses = await self._resolve(host.strip("[]"), int(port))
        except OSError as error:
            logger.warning("lightfm.not_resolved", name=self._name, error=str(error))
            return
        targets = [f"ipv6:[{address}]:{port}" if ":" in address else f"ipv4:{address}:{port}" for address in addresses]
        if set(targets) != set(self._channels):
            async with self._changing:
                await self._adopt(targets, host)

    def _open(self, target: str) -> list[aio.Channel]:
        channels = [open_channel(target, self._tls, host=self._host) for _ in range(self._connections)]
        for channel in channels:
            watch = asyncio.create_task(keep_connected(channel, self._on_connected))
            self._watches.add(watch)
            watch.add_done_callback(self._watches.discard)
        return channels

    async def _adopt(self, targets: Sequence[str], host: str) -> None:
        self._host = host
        gone = {target: channel for target, channel in self._channels.items() if target not in targets}
        kept = {target: channel for target, channel in self._channels.items() if target in targets}
        fresh = {target: self._open(target) for target in targets if target not in kept}
        self._channels = kept | fresh
        self._client.use(self.channels)
        logger.info("lightfm.replicas", addresses=sorted(self._channels))
        await _close(gone.values())

    async def _go_over(self) -> bool:
        """Replace open channels by channels of the present identity; return whether all could be replaced.

        A channel that is connected goes on until its successor is, so that a wrong identity costs nothing while the old
        connection lasts. One that is not connected has nothing to lose.
        """
        async with self._changing:
            fresh = {target: self._open(target) for target in self._channels}
            connected = await asyncio.gather(*[_all_connected(channels) for channels in fresh.values()])
            taken, left = {}, {}
            for (target, channels), connects in zip(fresh.items(), connected, strict=True):
                if connects or not _any_ready(self._channels[target]):
                    taken[target] = channels
                else:
                    left[target] = channels
            before = {target: self._channels[target] for target in taken}
            self._channels |= taken
            self._client.use(self.channels)
        if left:
            logger.warning("lightfm.not_renewed", addresses=sorted(left))
        logger.info("lightfm.renewed", addresses=sorted(taken))
        await _close([*before.values(), *left.values()])
        return not left


async def _all_connected(channels: Sequence[aio.Channel]) -> bool:
    return all(await asyncio.gather(*[warm_up(channel, RENEW_S) for channel in channels]))


def _any_ready(channels: Sequence[aio.Channel]) -> bool:
    return any(channel.get_state() is ChannelConnectivity.READY for channel in channels)


async def _close(every: Iterable[Sequence[aio.Channel]]) -> None:
    """Close channels once the calls on them have ended."""
    await asyncio.gather(*[channel.close(CLOSE_GRACE_S) for channels in every for channel in channels])


def static_targets(endpoint: str) -> list[str]:
    """Return one gRPC target for each address of an endpoint without a name to look up."""
    for scheme in ("ipv4:", "ipv6:"):
        if endpoint.startswith(scheme):
            return [scheme + address for address in endpoint.removeprefix(scheme).split(",")]
    return [address.strip() for address in endpoint.split(",")]
