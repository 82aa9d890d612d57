"""What is known of files on their way from results to the params of later tasks."""

from collections.abc import Iterator, Mapping
from typing import Any

from avtomatika_trio._core.json_values import MAX_DEPTH

#: How a file is written in params and results.
SCHEME = "s3://"

#: Of one file; whatever else a worker tells of it is not kept.
_MEMBERS = ("uri", "size", "etag", "sha256", "files")


def kept_metadata(said: Any) -> dict[str, Any]:
    """What is kept of `data_metadata` as a worker told it: entries that name a file.

    Workers of the original put what they have beyond the protocol below `metadata`.
    """
    if not isinstance(said, Mapping):
        return {}
    kept: dict[str, Any] = {}
    for place, entry in said.items():
        if isinstance(entry, Mapping) and isinstance(entry.get("uri"), str):
            more = entry.get("metadata")
            whole = {**(more if isinstance(more, Mapping) else {}), **entry}
            kept[str(place)] = {name: whole[name] for name in _MEMBERS if name in whole}
    return kept


def uris_in(params: Any) -> list[str]:
    """Each URI that params name, once."""
    found = (text for _, text in texts_in(params) if text.startswith(SCHEME))
    return list(dict.fromkeys(found))


def files_known(*sources: Any) -> dict[str, Any]:
    """What *sources* - results, in whatever they are nested - know of files, by their URIs.

    >>> history = {"cut": {"data_metadata": {"file": {"uri": "s3://b/k", "size": 7}}}}
    >>> files_known(history)
    {'s3://b/k': {'uri': 's3://b/k', 'size': 7}}
    """
    return dict(entry for source in sources for entry in _entries_in(source))


def metadata_of(params: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """What is *known*, by URIs, of the files that *params* name, by their places there.

    >>> metadata_of({"film": {"path": "s3://b/k"}}, {"s3://b/k": {"uri": "s3://b/k"}})
    {'film.path': {'uri': 's3://b/k'}}
    """
    if not known:
        return {}
    named = ((place, text) for place, text in texts_in(params) if text.startswith(SCHEME))
    return {place: known[text] for place, text in named if text in known}


def texts_in(value: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Every text in *value* with its place: `video`, `parts[0].file`.

    >>> list(texts_in({"a": "x", "b": [{"c": "y"}]}))
    [('a', 'x'), ('b[0].c', 'y')]
    """
    if isinstance(value, str):
        yield path, value
    elif depth > MAX_DEPTH:
        return
    elif isinstance(value, dict):
        for key, it in value.items():
            yield from texts_in(it, f"{path}.{key}" if path else str(key), depth + 1)
    elif isinstance(value, list):
        for at, it in enumerate(value):
            yield from texts_in(it, f"{path}[{at}]", depth + 1)


def _entries_in(value: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every entry of a `data_metadata` in *value*, by its URI."""
    if depth > MAX_DEPTH:
        return
    if isinstance(value, list):
        for it in value:
            yield from _entries_in(it, depth + 1)
    elif isinstance(value, Mapping):
        for entry in kept_metadata(value.get("data_metadata")).values():
            yield entry["uri"], entry
        for it in value.values():
            yield from _entries_in(it, depth + 1)
