"""`workers.toml` and `clients.toml`: what is read, and how each mistake is told."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from avtomatika_trio._config import (
    ClientEntry,
    Secret,
    WorkerEntry,
    read_clients_file,
    read_workers_file,
)
from avtomatika_trio._core.access import Role
from avtomatika_trio._wire.token_hashes import hash_token
from avtomatika_trio.errors import ConfigError

HASH = hash_token("some-token-or-other", bytes(16))

#: As on the page that the product was asked for with.
SEED = """\
# workers.toml
[worker-video-1]
token = "unique-secret-token-for-video-1"

[worker-audio-5]
token = "another-secret-for-audio-5"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file.toml"
    path.touch(mode=0o600)
    return path


def problems(path: Path, text: str, *, clients: bool = False) -> list[str]:
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        (read_clients_file if clients else read_workers_file)(path)
    return [it.replace(str(path), "F") for it in caught.value.problems]


def test_the_seeds_file(path: Path) -> None:
    path.write_text(SEED)
    read = read_workers_file(path)
    assert read.warnings == ()
    assert [(it.name, it.tokens[0].reveal()) for it in read.entries] == [
        ("worker-video-1", "unique-secret-token-for-video-1"),
        ("worker-audio-5", "another-secret-for-audio-5"),
    ]


def test_everything_that_a_worker_may_have(path: Path) -> None:
    path.write_text(
        f"""\
["gpu-*"]
tokens = ["the-newer-one-of-both", "the-older-one-of-both"]
expires_at = 2027-01-31T00:00:00+01:00
skills = ["resize", "render"]
description = "the machines in the cellar"

["pattern:cpu-?"]
token_hash = "{HASH}"
expires_at = "2027-01-31T00:00:00Z"

[both]
token_hash = ["{HASH}", "{HASH}"]
"""
    )
    first, second, third = read_workers_file(path).entries
    assert first == WorkerEntry(
        name="gpu-*",
        tokens=(Secret("the-newer-one-of-both"), Secret("the-older-one-of-both")),
        expires_at=datetime(2027, 1, 30, 23, tzinfo=UTC).timestamp(),
        skills=("resize", "render"),
        description="the machines in the cellar",
    )
    assert (second.name, second.hashes) == ("cpu-?", (HASH,))
    assert second.expires_at == datetime(2027, 1, 31, tzinfo=UTC).timestamp()
    assert third.hashes == (HASH, HASH)


def test_everything_that_a_client_may_have(path: Path) -> None:
    path.write_text(
        """\
[acme]
token = "the-token-of-the-acme"
plan = "gold"
monthly_attempts = 1000
roles = ["Submitter", "operator"]
languages = ["en", "fr"]
since = 2026-01-01

[acme.params]
color = "red"

[small]
token = "the-token-of-the-small"
"""
    )
    acme, small = read_clients_file(path).entries
    assert acme == ClientEntry(
        name="acme",
        tokens=(Secret("the-token-of-the-acme"),),
        plan="gold",
        monthly_attempts=1000,
        roles=(Role.SUBMITTER, Role.OPERATOR),
        params={"languages": ["en", "fr"], "since": "2026-01-01", "color": "red"},
    )
    assert (small.roles, small.monthly_attempts, small.params) == ((Role.SUBMITTER,), None, {})


GOOD = 'token = "a-token-of-sixteen"'

WORKER_MISTAKES = [
    ("[w1]\n[gpu-*]\n", 'F line 2: [gpu-*] is a wildcard; quote it: ["gpu-*"]'),
    ("[gpu-?]\n", 'F line 1: [gpu-?] is a wildcard; quote it: ["gpu-?"]'),
    (f"[gpu.1]\n{GOOD}\n", "worker ids have no dots: 'gpu.1'"),
    (f'["gpu.1"]\n{GOOD}\n', "F line 1, [gpu.1]: worker ids have no dots: 'gpu.1'"),
    (f'["gpu 1"]\n{GOOD}\n', "F line 1, [gpu 1]: is no worker id"),
    (f'["gpu 1*"]\n{GOOD}\n', "F line 1, [gpu 1*]: is no wildcard"),
    (f'[""]\n{GOOD}\n', "is no worker id"),
    (f"{GOOD}\n", "F line 1: 'token' is in no section"),
    (f'[w1]\n{GOOD}\ntokens = ["x"]\n', "F line 3, tokens: has both token and tokens; keep one"),
    (f'[w1]\n{GOOD}\nskils = ["x"]\n', "F line 3, skils: is an unknown key; did you mean 'skills'"),
    ("[w1]\ntoken = 5\n", "F line 2, token: it is not a text"),
    ('[w1]\ntoken = ""\n', "F line 2, token: it is empty"),
    ('[w1]\ntoken = "two words"\n', "F line 2, token: it holds a space"),
    (
        f'[w1]\ntoken = "{HASH}"\n',
        "F line 2, token: it is the hash of a token; write",
    ),
    ('[w1]\ntoken_hash = "secret!"\n', "F line 2, token_hash: it is not the hash of a token"),
    ("[w1]\ntokens = []\n", "F line 2, tokens: it is not a list of one or two tokens"),
    ('[w1]\ntokens = ["a", "b", "c"]\n', "F line 2, tokens: it is not a list of one or two tokens"),
    (f"[w1]\n{GOOD}\nexpires_at = 2027-01-31\n", "F line 3, expires_at: it has no time zone"),
    (f"[w1]\n{GOOD}\nexpires_at = 2027-01-31T00:00:00\n", "with Z or an offset"),
    (f'[w1]\n{GOOD}\nexpires_at = "soon"\n', "F line 3, expires_at: 'soon' is no date and time"),
    (f"[w1]\n{GOOD}\nskills = []\n", "F line 3, skills: it is not a list of skills"),
    (f"[w1]\n{GOOD}\nskills = [5]\n", "F line 3, skills: 5 is not a text"),
    (f'["gpu-*"]\n{GOOD}\n["pattern:gpu-*"]\n{GOOD}\n', "there are two sections for 'gpu-*'"),
    (f'["gpu-["]\n{GOOD}\n', "F line 1, [gpu-[]: is no wildcard"),
    (f"[w1]\n{GOOD}\nexpires_at = 0001-01-01T00:00:00+05:00\n", "the year 1 makes no sense"),
    ("[w1]\nskills = [x*]\n", "F: not TOML"),
    ("[w1\n", "F: not TOML"),
    ("[w1]\n[w1]\n", "F: not TOML"),
]

CLIENT_MISTAKES = [
    ("[acme]\n", "F line 1, [acme]: has no token; add token or token_hash"),
    (f'["a b"]\n{GOOD}\n', "F line 1, [a b]: is no client id"),
    (f"[a]\n{GOOD}\n[a.eu]\n{GOOD}\n", 'a name with a dot must be quoted: ["a.eu"]'),
    (f'[acme]\n{GOOD}\nroles = ["boss"]\n', "'boss' is no role; there are viewer, submitter,"),
    (f'[acme]\n{GOOD}\nroles = "admin"\n', "F line 3, roles: it is not a list of roles"),
    (f"[acme]\n{GOOD}\nmonthly_attempts = -1\n", "F line 3, monthly_attempts: -1 is out of range"),
    (f'[acme]\n{GOOD}\nmonthly_attempts = "many"\n', "is not a whole number"),
    (f"[acme]\n{GOOD}\nplan = 5\n", "F line 3, plan: 5 is not a text"),
    (f"[acme]\n{GOOD}\nparams = 5\n", "F line 3, params: it is not a table"),
    (f"[acme]\n{GOOD}\na = 1\nparams = {{a = 2}}\n", "F line 3, a: is also in params"),
    (f"[acme]\n{GOOD}\ndescription = 5\n", "F line 3, description: 5 is not a text"),
    (f"[acme]\n{GOOD}\nlimit = inf\n", "handlers get it as JSON"),
]


@pytest.mark.parametrize(("text", "fault"), WORKER_MISTAKES)
def test_a_mistake_of_workers_toml_is_told_with_its_line(path: Path, text: str, fault: str) -> None:
    told = problems(path, text)
    assert any(fault in it for it in told), told


@pytest.mark.parametrize(("text", "fault"), CLIENT_MISTAKES)
def test_a_mistake_of_clients_toml_is_told_with_its_line(path: Path, text: str, fault: str) -> None:
    told = problems(path, text, clients=True)
    assert any(fault in it for it in told), told


def test_all_mistakes_are_told_at_once_and_no_token_with_them(path: Path) -> None:
    text = '[w1]\ntoken = "sec ret"\n[w2]\ntoken_hash = "sec-ret"\n["a b"]\ntoken = "sec\\tret"\n'
    told = problems(path, text)
    assert len(told) == 4
    assert "sec" not in "".join(told)


def test_what_is_odd_is_warned_of(path: Path) -> None:
    path.chmod(0o644)
    path.write_text('[a]\ntoken = "short"\n[b]\ntoken = "short"\n[c]\n')
    told = "\n".join(read_workers_file(path).warnings)
    assert "[a]: has a token of less than 16 characters" in told
    assert "[c]: has no token, so that only a client certificate lets it in" in told
    assert "[a] and [b] have the same token" in told
    assert f"chmod 600 {path}" in told
    assert "short" not in told


def test_a_key_with_a_slip_is_a_param_and_warned_of(path: Path) -> None:
    path.write_text(f"[acme]\n{GOOD}\nmonthly_attemps = 5\ncolor = 'red'\n")
    read = read_clients_file(path)
    assert read.entries[0].params == {"monthly_attemps": 5, "color": "red"}
    [warning] = read.warnings
    assert "'monthly_attemps' is one of its params; did you mean 'monthly_attempts'?" in warning


def test_a_description_may_have_several_lines(path: Path) -> None:
    path.write_text(f'[w1]\n{GOOD}\ndescription = """\none\ntwo"""\n')
    assert read_workers_file(path).entries[0].description == "one\ntwo"


def test_hashes_alone_may_be_read_by_anybody(path: Path) -> None:
    path.chmod(0o644)
    path.write_text(f'[a]\ntoken_hash = "{HASH}"\n')
    assert read_workers_file(path).warnings == ()


def test_an_empty_file_lets_nobody_in(path: Path) -> None:
    assert read_workers_file(path).entries == ()
    assert read_clients_file(path).entries == ()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_workers_file(tmp_path / "none.toml")


def test_many_workers(path: Path) -> None:
    path.write_text("".join(f'[w{n}]\ntoken = "the-token-of-worker-{n}"\n' for n in range(2000)))
    assert len(read_workers_file(path).entries) == 2000


PIECES = st.sampled_from(
    [
        "[w1]\n",
        '["g*"]\n',
        "[a.b]\n",
        "token",
        "tokens",
        " = ",
        '"x"',
        "\n",
        "[",
        "]",
        "5",
        "#",
        ".",
    ]
)


@given(st.one_of(st.binary(max_size=60), st.lists(PIECES, max_size=12).map("".join)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_in_the_file_is_read_or_refused(path: Path, content: bytes | str) -> None:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for read in (read_workers_file, read_clients_file):
        with suppress(ConfigError):
            read(path)
