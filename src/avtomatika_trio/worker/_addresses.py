"""The orchestrators of a worker, in order, with what is shown to each."""

from collections.abc import Callable

from avtomatika_trio._config import WorkerSettings
from avtomatika_trio.worker._api import Address
from avtomatika_trio.worker._tls import create_tls


def addresses_of(
    settings: WorkerSettings, worker_id: str, wall_clock: Callable[[], float]
) -> list[Address]:
    """Where to work, the most preferred first.

    Args:
        settings: Which name them.
        worker_id: Who calls.
        wall_clock: Unix time.

    Raises:
        ConfigError: the files of TLS cannot be used.
    """
    tls = create_tls(settings)
    # Stable: the order of the list decides between equals.
    targets = sorted(settings.orchestrators, key=lambda target: target.priority)
    return [
        Address(
            url=target.url,
            worker_id=worker_id,
            token=settings.token_of(target),
            wall_clock=wall_clock,
            tls=tls,
        )
        for target in targets
    ]
