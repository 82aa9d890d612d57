"""Addresses of Redis: every form, and a complaint about every fault that shows no password."""

import pytest

from avtomatika_trio.errors import ConfigError
from avtomatika_trio.storage._redis_url import RedisAddress, parse


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://db", RedisAddress(kind="single", places=(("db", 6379),))),
        ("redis://[::1]:7000/2", RedisAddress(kind="single", places=(("::1", 7000),), db=2)),
        (
            "redis://app:p%40ss%2F@10.0.0.1:1/",
            RedisAddress(kind="single", places=(("10.0.0.1", 1),), user="app", password="p@ss/"),
        ),
        (
            "redis://:pw@db",
            RedisAddress(kind="single", places=(("db", 6379),), password="pw"),
        ),
        (
            "rediss://db?ssl_ca_certs=/ca.pem&ssl_cert_reqs=none",
            RedisAddress(
                kind="single",
                places=(("db", 6379),),
                tls=True,
                tls_options=(("ssl_ca_certs", "/ca.pem"), ("ssl_cert_reqs", "none")),
            ),
        ),
        (
            "redis+sentinel://u:p@a,b:5/main/3",
            RedisAddress(
                kind="sentinel",
                places=(("a", 26379), ("b", 5)),
                service="main",
                db=3,
                user="u",
                password="p",
            ),
        ),
        (
            "rediss+cluster://a:1,b",
            RedisAddress(kind="cluster", places=(("a", 1), ("b", 6379)), tls=True),
        ),
    ],
)
def test_each_form(url: str, address: RedisAddress) -> None:
    assert parse(url) == address


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("redis:db", "is no address of Redis"),
        ("redis+tls://db", "is no address of Redis"),
        ("redis+single://db", "is no address of Redis"),
        ("redis://", "has no host"),
        ("redis://:hunter2@", "has no host"),
        ("redis://a:hunter2@db:port", "has a malformed host or port"),
        ("redis://a:hunter2@db:", "has a malformed host or port"),
        ("redis://a:hunter2@db:0", "has a port that is out of range"),
        ("redis://a:hunter2@db:65536", "has a port that is out of range"),
        ("redis://a:hunter2@b,c", "names several hosts"),
        ("redis://a:hunter2@b/x", "has a database that is not a number"),
        ("redis://a:hunter2@b/1/2", "has a database that is not a number"),
        ("redis://a:hun/ter2@b", "must be percent-encoded"),
        ("redis://a:hun@ter2@b", "must be percent-encoded"),
        ("redis://a:hunter2@b c", "holds a space"),
        ("redis://hunter2@b", "has a user without a password"),
        ("redis://a:@b", "has a user without a password"),
        ("redis://a:hunter2@b?db=hunter2", "has a query that is not one of"),
        ("redis://a:hunter2@b?ssl_ca_certs=x", "only rediss: can use"),
        ("rediss://a:hunter2@b?ssl_ca_certs=", "has an empty ssl_ca_certs"),
        ("rediss://a:hunter2@b?ssl_cert_reqs=maybe", "not one of required, optional, none"),
        ("rediss://a:hunter2@b?ssl_keyfile=k", "ssl_keyfile without ssl_certfile"),
        ("rediss://a:hunter2@b?ssl_cert_reqs=none&ssl_cert_reqs=none", "twice"),
        ("redis://a:hunter2@b#c", "has a fragment"),
        ("redis+sentinel://a:hunter2@b", "does not name the service"),
        ("redis+sentinel://a:hunter2@b/s/x", "has a database that is not a number"),
        ("redis+sentinel://a:hunter2@b,/s", "has a malformed host or port"),
        ("redis+cluster://a:hunter2@b,c/1", "a cluster has only one"),
    ],
)
def test_each_fault_is_named_with_its_remedy(url: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(url)
    [problem] = caught.value.problems
    assert fault in problem
    assert "; give redis" in problem
    assert "hunter2" not in problem


def test_a_password_is_not_in_the_repr() -> None:
    assert "hunter2" not in repr(parse("redis://app:hunter2@db"))
