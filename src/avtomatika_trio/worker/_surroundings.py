"""What a worker needs of the world."""

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import attrs
import httpx

from avtomatika_trio.worker._health import OpenHealth, open_health_port
from avtomatika_trio.worker._skills import CallHandler
from avtomatika_trio.worker._spool import Spool
from avtomatika_trio.worker._switchboard import Noise


@attrs.frozen(kw_only=True)
class Surroundings:
    """What a worker needs of the world; tests have worlds of their own."""

    open_spool: Callable[[str], AbstractAsyncContextManager[Spool]]
    """Opens the spool for an instance."""
    instance: str
    """The random id of this run."""
    noise: Noise
    wall_clock: Callable[[], float] = time.time
    """Unix time; also asked by the threads of heartbeats."""
    transport: httpx.AsyncBaseTransport | None = None
    """Instead of the network."""
    thread_transport: httpx.BaseTransport | None = None
    """Instead of the network, for the heartbeats' threads."""
    open_health: OpenHealth = open_health_port
    """Where the health check is answered."""
    beats_in_thread: bool = True
    """False on a virtual clock, which does not see threads; nor is the real machine measured."""
    call_handler: CallHandler | None = None
    """Instead of the loop for handlers that are `async`, and of threads for others."""
