"""The worker SDK: takes tasks from an orchestrator and runs handlers for them.

from avtomatika_trio.worker import Worker

worker = Worker()

@worker.skill("echo")
async def echo(params):
    return params

worker.run()
"""

from avtomatika_trio._task_logs import TaskContextFilter as TaskContextFilter
from avtomatika_trio.errors import (
    InvalidEvent as InvalidEvent,
    InvalidInput as InvalidInput,
    PermanentError as PermanentError,
    TransientError as TransientError,
)
from avtomatika_trio.worker._cancellation import TaskCancelled as TaskCancelled
from avtomatika_trio.worker._middlewares import TaskContext as TaskContext
from avtomatika_trio.worker._skill_blueprint import SkillBlueprint as SkillBlueprint
from avtomatika_trio.worker._task_files import TaskFiles as TaskFiles
from avtomatika_trio.worker._worker import Worker as Worker

__all__ = [
    "InvalidEvent",
    "InvalidInput",
    "PermanentError",
    "SkillBlueprint",
    "TaskCancelled",
    "TaskContext",
    "TaskContextFilter",
    "TaskFiles",
    "TransientError",
    "Worker",
]
