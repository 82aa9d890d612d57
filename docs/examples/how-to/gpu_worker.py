"""A worker with one GPU: limits, a veto, hot skills and what the machine is."""

import shutil
from typing import Any

from avtomatika_trio.worker import Worker

LEAST_FREE_BYTES = 2 * 1024**3


def has_disk(skill: str) -> bool:
    """Rendering needs room on the disk."""
    return skill != "render" or shutil.disk_usage("/tmp").free > LEAST_FREE_BYTES  # noqa: S108


worker = Worker(skill_type_limits={"gpu": 1}, capacity_checker=has_disk)


@worker.skill("render", type="gpu")
def render(params: dict[str, Any]) -> dict[str, Any]:
    """Only one of `render` and `upscale` runs at a time."""
    return {"scene": params["scene"]}


@worker.skill("upscale", type="gpu")
def upscale(params: dict[str, Any]) -> dict[str, Any]:
    """The other one."""
    return {"scene": params["scene"]}


@worker.skill("caption")
async def caption(params: dict[str, Any]) -> str:
    """Not of the group: as many run as there are slots."""
    return f"scene {params['scene']}"
