"""The Lua scripts: one for each promise that has to be atomic."""

from importlib import resources

from avtomatika_trio.storage._redis_wire import Script


def _script(name: str) -> Script:
    source = resources.files("avtomatika_trio.storage") / "lua" / f"{name}.lua"
    return Script(name, source.read_text("utf-8"))


OPEN = _script("open")
COMMIT = _script("commit")
CLAIM = _script("claim")
HOLD = _script("hold")
BACKLOG = _script("backlog")
