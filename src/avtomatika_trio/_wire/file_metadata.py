"""What is told of one file: RXON's members, and what goes beyond them below `metadata`.

Whoever signs goes by the members that the protocol has, so nothing stands beside them.
"""

from collections.abc import Mapping
from typing import Any

_MEMBERS = frozenset({"uri", "size", "etag", "metadata"})


def file_metadata(entry: Mapping[str, Any]) -> dict[str, Any]:
    """*entry* as RXON has it.

    >>> file_metadata({"uri": "s3://b/k", "size": 7, "sha256": "ab"})
    {'uri': 's3://b/k', 'size': 7, 'metadata': {'sha256': 'ab'}}
    """
    known = {name: it for name, it in entry.items() if name in _MEMBERS}
    beyond = {name: it for name, it in entry.items() if name not in _MEMBERS}
    return {**known, "metadata": beyond} if beyond else known


def flat_metadata(entry: Mapping[str, Any]) -> dict[str, Any]:
    """*entry* with what is below `metadata` beside the rest.

    >>> flat_metadata({"uri": "s3://b/k", "metadata": {"sha256": "ab"}})
    {'sha256': 'ab', 'uri': 's3://b/k'}
    """
    more = entry.get("metadata")
    known = {name: it for name, it in entry.items() if name != "metadata"}
    return {**(more if isinstance(more, Mapping) else {}), **known}
