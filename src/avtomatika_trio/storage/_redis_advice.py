"""What a crash or a failover of this Redis would cost, as its settings are.

Told once, when the storage is opened: nothing is wrong with a server that keeps everything in
memory alone, but whoever keeps jobs in it should know.
"""

from collections.abc import Mapping

from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.storage._redis_bridge import RedisBridge
from avtomatika_trio.storage._redis_wire import Command

#: What `CONFIG GET` is asked for.
_SETTINGS = ("appendonly", "appendfsync", "save", "maxmemory-policy", "min-replicas-to-write")

_KEEP = "appendonly yes and appendfsync always"


async def read_settings(bridge: RedisBridge, key: str) -> dict[str, str]:
    """The settings of the server that has *key*, as far as it tells them.

    `CONFIG` may be forbidden; what `INFO` tells goes by the same names then.

    Raises:
        StorageUnavailable: it cannot be reached.
    """
    told: dict[str, str] = {}
    names: list[Command] = [("CONFIG", "GET", name) for name in _SETTINGS]
    for reply in await _ask(bridge, names, key):
        if isinstance(reply, list):
            told |= dict(zip(*[iter(map(bytes.decode, reply))] * 2, strict=True))
    sections: list[Command] = [("INFO", name) for name in ("persistence", "memory", "replication")]
    for reply in await _ask(bridge, sections, key):
        if isinstance(reply, bytes):
            told = _of_info(reply.decode()) | told
    return told


async def _ask(bridge: RedisBridge, commands: list[Command], key: str) -> list[object]:
    try:
        return await bridge.call(*commands, key=key)
    except StorageUnavailable:  # also if the user may not do this; the next command shows it
        return []


def _of_info(text: str) -> dict[str, str]:
    info = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    told = {
        "appendonly": {"0": "no", "1": "yes"}.get(info.get("aof_enabled", "")),
        "maxmemory-policy": info.get("maxmemory_policy"),
        "replicas": info.get("connected_slaves"),
    }
    return {name: value for name, value in told.items() if value is not None}


def advice(settings: Mapping[str, str]) -> tuple[str, ...]:
    """What should be known of a server with these settings; names that are absent are unknown.

    >>> advice({"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"})
    ()
    """
    found = (_of_crashes(settings), _of_memory(settings), _of_failovers(settings))
    return tuple(it for it in found if it is not None)


def _of_crashes(settings: Mapping[str, str]) -> str | None:
    kept = settings.get("appendonly")
    match kept, settings.get("appendfsync"):
        case "yes", "always":
            return None
        case "yes", "everysec":
            lost = "what was acknowledged in the last second or two"
            remedy = "set appendfsync always"
        case "yes", "no":
            lost = "what was acknowledged in the last half minute"
            remedy = "set appendfsync always"
        case "yes", _:
            return "it does not tell its appendfsync; only always keeps all through a crash"
        case "no", _ if settings.get("save"):
            lost = "everything since it last saved a snapshot"
            remedy = f"set {_KEEP}"
        case "no", _ if "save" in settings:
            lost = "everything"
            remedy = f"set {_KEEP}"
        case "no", _:
            lost = "everything since it last saved a snapshot, if it ever does"
            remedy = f"set {_KEEP}"
        case _:
            return f"it does not tell how it keeps its data; only {_KEEP} keep all through a crash"
    return f"a crash of it would lose {lost}; if that is too much, {remedy}"


def _of_memory(settings: Mapping[str, str]) -> str | None:
    policy = settings.get("maxmemory-policy", "noeviction")
    if policy == "noeviction":
        return None
    # Most of our keys have no time to live, so `volatile-...` seldom finds one of them, and those
    # it does find keep calls from being done twice.
    return (
        f"its maxmemory-policy is {policy}: when its memory is full it may throw jobs away; set"
        " maxmemory-policy noeviction"
    )


def _of_failovers(settings: Mapping[str, str]) -> str | None:
    replicas = settings.get("replicas", "0")
    if replicas == "0" or settings.get("min-replicas-to-write", "1") != "0":
        return None
    return (
        "it has replicas and writes without waiting for any: a failover may lose what was"
        " acknowledged shortly before it; set min-replicas-to-write 1 to bound that, and"
        " min-replicas-max-lag"
    )
