"""Keeps a channel connected: a peer that is back is found at once, not by the next user's call."""

from collections.abc import Callable

from grpc import ChannelConnectivity, aio


async def keep_connected(channel: aio.Channel, on_connected: Callable[[], None]) -> None:
    """Connect anew whenever the connection is lost, and tell of each connection; ends with the channel."""
    state = channel.get_state(try_to_connect=True)
    while state is not ChannelConnectivity.SHUTDOWN:
        await channel.wait_for_state_change(state)
        state = channel.get_state(try_to_connect=True)
        if state is ChannelConnectivity.READY:
            on_connected()
