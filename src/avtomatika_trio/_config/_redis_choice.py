"""What `REDIS_HOST`, `REDIS_PORT` and `REDIS_DB` come to beside `STORAGE_URL`.

`STORAGE_URL` and `--storage` win.  Where the two name different places there is a warning and
not an error: variables of that name are often set for other programs, too.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from avtomatika_trio._config._masking import masked
from avtomatika_trio._config._redis_urls import read_redis_url, redis_url

FIELDS = ("redis_host", "redis_port", "redis_db")


def doubts(
    values: Mapping[str, Any], sources: Mapping[str, str], given: Collection[str]
) -> Iterator[str]:
    """Warnings about settings of Redis that have no effect.

    Args:
        values: By field, all of them well formed.
        sources: By field.
        given: The fields that are not by default what they are.
    """
    told = " and ".join(sources[it] for it in FIELDS if it in given)
    host = values["redis_host"]
    if host is None:
        if told:
            yield f"{told}: ignored, since REDIS_HOST is not given"
    elif "storage_url" in given:
        stored = values["storage_url"]
        url = redis_url(host, values["redis_port"], values["redis_db"])
        if not _is_same_place(stored, url):
            yield (
                f"{sources['storage_url']} outweighs {told}: jobs are kept in {masked(stored)},"
                f" not in {url}; remove what is not meant"
            )


def _is_same_place(stored: str, url: str) -> bool:
    """Whether the URL of a storage names the server that *url* does, whatever the password."""
    if not stored.startswith("redis"):
        return False
    one, other = read_redis_url(stored), read_redis_url(url)
    return (one.kind, one.places, one.db) == (other.kind, other.places, other.db)
