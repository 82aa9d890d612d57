"""Blueprint jobs on a fleet of workers.

Everything the author of a blueprint needs is here.  The two programs live beside it,
`avtomatika_trio.orchestrator` (the server) and `avtomatika_trio.worker` (the SDK), so that a
worker machine never has to load a web framework or a database driver.
"""

from avtomatika_trio._core.actions import ActionFactory as ActionFactory
from avtomatika_trio._core.binding import JobContext as JobContext
from avtomatika_trio._core.job import JobStatus as JobStatus
from avtomatika_trio._core.retry import RetryPolicy as RetryPolicy
from avtomatika_trio._sources import (
    Blueprint as Blueprint,
    StateMachineBlueprint as StateMachineBlueprint,
)
from avtomatika_trio.errors import AvtomatikaError as AvtomatikaError

__all__ = [
    "ActionFactory",
    "AvtomatikaError",
    "Blueprint",
    "JobContext",
    "JobStatus",
    "RetryPolicy",
    "StateMachineBlueprint",
]
