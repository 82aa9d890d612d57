"""What a worker has, as it says when it registers: the truth, unless settings say otherwise."""

import logging
import os
import platform
import socket
from collections.abc import Collection, Mapping
from typing import Any

from avtomatika_trio._config import WorkerSettings
from avtomatika_trio._core.arguments import did_you_mean
from avtomatika_trio._wire.messages import Registration
from avtomatika_trio.errors import ConfigError
from avtomatika_trio.worker._payloads import capabilities_of
from avtomatika_trio.worker._skills import Skill

logger = logging.getLogger(__name__)

_GIB = 1024**3


def registration_of(
    worker_id: str,
    worker_type: str,
    settings: WorkerSettings,
    skills: Mapping[str, Skill],
    instance: str,
) -> Registration:
    """What a run of a worker says of itself when it registers."""
    return Registration(
        worker_id=worker_id,
        worker_type=worker_type,
        supported_skills=[skill.info for skill in skills.values()],
        resources=resources_of(settings),
        installed_software=dict(software_of(settings)),
        installed_artifacts=list(artifacts_of(settings)),
        capabilities={**capabilities_of(settings), **traits_of(settings, list(skills))},
        instance=instance,
        heartbeat_seconds=settings.heartbeat_interval_seconds,
        slots=settings.max_concurrent_tasks,
    )


def check_prices(prices: Mapping[str, float], skills: Collection[str], *, in_code: bool) -> None:
    """Tell of *prices* of what is none of *skills*.

    Who writes them beside the skills has made a mistake.  A variable or a file may be that of
    several workers, each with skills of its own, so there it is a warning.

    Args:
        prices: By the name of the skill.
        skills: Of the worker.
        in_code: Whether the author of the worker has written them.

    Raises:
        ConfigError: there are such, and these are written in code.
    """
    name = "cost_per_skill" if in_code else "COST_PER_SKILL"
    faults = tuple(
        f"{name}: there is no skill {it!r} to have a price; {did_you_mean(it, skills)}"
        for it in prices
        if it not in skills
    )
    if faults and in_code:
        raise ConfigError(faults)
    for fault in faults:
        logger.warning("%s; it is not announced", fault)


def resources_of(settings: WorkerSettings) -> dict[str, Any]:
    """Cores, memory and devices: `properties` and `devices`, with RXON's names."""
    cores, ram_gb = settings.cpu_cores, settings.ram_gb
    properties: dict[str, Any] = {"cpu_cores": _cores() if cores is None else cores}
    memory = _memory_gb() if ram_gb is None else ram_gb
    if memory is not None:
        properties["ram_gb"] = memory
    return {"properties": properties, "devices": [*_gpu(settings), *settings.devices]}


def software_of(settings: WorkerSettings) -> dict[str, str]:
    """What is installed, in which version."""
    if settings.installed_software is not None:
        return settings.installed_software
    return {"python": platform.python_version()}


def artifacts_of(settings: WorkerSettings) -> list[dict[str, Any]]:
    """Models and the like; a version that was not given is `unknown`."""
    return [{"version": "unknown", **it} for it in settings.installed_artifacts]


def traits_of(settings: WorkerSettings, skills: list[str]) -> dict[str, Any]:
    """The capabilities that are not resources: the host, prices of *skills*, whatever else."""
    prices = dict.fromkeys(skills, settings.cost_per_second)
    prices |= {it: price for it, price in (settings.cost_per_skill or {}).items() if it in skills}
    return {
        "hostname": socket.gethostname(),
        "cost_per_skill": {it: price for it, price in prices.items() if price is not None},
        "extra": settings.extra or {},
    }


def _gpu(settings: WorkerSettings) -> list[dict[str, Any]]:
    if settings.gpu_model is None and settings.gpu_vram_gb is None:
        return []
    gpu: dict[str, Any] = {"type": "gpu", "id": str(settings.gpu_id)}
    if settings.gpu_model is not None:
        gpu["model"] = settings.gpu_model
    if settings.gpu_vram_gb is not None:
        # The original says the one, and its documentation asks for the other.
        both = dict.fromkeys(("memory_gb", "vram_gb"), settings.gpu_vram_gb)
        gpu["properties"] = both
    return [gpu]


def _cores() -> int:
    """Those that this process may use, which may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_gb() -> float | None:
    """Of the machine, in GiB; None = the system does not tell."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    return round(total / _GIB, 1)
