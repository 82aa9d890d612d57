"""What is said of a server by its settings."""

import logging

import pytest
from tests.storage.redis_servers import Server, start_server

from avtomatika_trio.storage import open_storage
from avtomatika_trio.storage._redis_advice import advice

SAFE = {
    "appendonly": "yes",
    "appendfsync": "always",
    "save": "",
    "maxmemory-policy": "noeviction",
    "min-replicas-to-write": "0",
    "replicas": "0",
}
CRASH = "a crash of it would lose "
AOF = "; if that is too much, set appendonly yes and appendfsync always"
SYNC = "; if that is too much, set appendfsync always"


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({}, []),
        (
            {"appendfsync": "everysec"},
            [f"{CRASH}what was acknowledged in the last second or two{SYNC}"],
        ),
        ({"appendfsync": "no"}, [f"{CRASH}what was acknowledged in the last half minute{SYNC}"]),
        ({"appendonly": "no"}, [f"{CRASH}everything{AOF}"]),
        (
            {"appendonly": "no", "save": "3600 1 300 100"},
            [f"{CRASH}everything since it last saved a snapshot{AOF}"],
        ),
        ({"maxmemory-policy": "allkeys-lru"}, ["its maxmemory-policy is allkeys-lru"]),
        ({"maxmemory-policy": "volatile-ttl"}, ["its maxmemory-policy is volatile-ttl"]),
        ({"replicas": "1"}, ["it has replicas and writes without waiting for any"]),
        ({"replicas": "1", "min-replicas-to-write": "1"}, []),
        (
            {"appendonly": "no", "maxmemory-policy": "allkeys-random", "replicas": "2"},
            [f"{CRASH}everything{AOF}", "its maxmemory-policy is", "it has replicas"],
        ),
    ],
)
def test_each_danger_is_told_with_what_to_set(changes: dict[str, str], texts: list[str]) -> None:
    told = advice({**SAFE, **changes})
    assert len(told) == len(texts)
    for text, begin in zip(told, texts, strict=True):
        assert text.startswith(begin)
        assert "set " in text


@pytest.mark.parametrize(
    ("known", "text"),
    [
        ({}, "it does not tell how it keeps its data"),
        ({"appendonly": "yes"}, "it does not tell its appendfsync"),
        (
            {"appendonly": "no"},
            f"{CRASH}everything since it last saved a snapshot, if it ever does",
        ),
    ],
)
def test_what_a_server_does_not_tell_is_said_to_be_unknown(
    known: dict[str, str], text: str
) -> None:
    [told] = advice(known)
    assert told.startswith(text)


def forbid_config(server: Server) -> str:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">s", "~*", "&*", "+@all", "-config")
    return server.url.replace("//", "//app:s@")


@pytest.mark.parametrize(
    ("options", "forbidden", "warning"),
    [
        (("--appendonly", "yes", "--appendfsync", "always"), False, ""),
        ((), False, f"{CRASH}everything;"),
        (("--save", "60 1"), False, "since it last saved a snapshot;"),
        ((), True, "if it ever does"),
        (("--appendonly", "yes"), True, "it does not tell its appendfsync"),
        (("--maxmemory-policy", "allkeys-lru"), True, "its maxmemory-policy is allkeys-lru"),
    ],
)
async def test_a_storage_that_is_opened_warns_once(
    options: tuple[str, ...], forbidden: bool, warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    with start_server("valkey", *options) as server:
        url = forbid_config(server) if forbidden else server.url
        with caplog.at_level(logging.WARNING):
            async with open_storage(url) as storage:
                assert storage.fault is None
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == (1 if warning else 0)
    assert warning in "".join(told)
