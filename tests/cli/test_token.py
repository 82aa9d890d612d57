"""`avtomatika token`: the files are changed in place, and a token is told once."""

import io
from pathlib import Path

import pytest
from tests.cli.commands import Run

from avtomatika_trio._config import read_clients_file, read_workers_file
from avtomatika_trio._wire.token_hashes import matches
from avtomatika_trio.cli import Exit


def test_a_new_worker_has_a_token_that_is_told_once_and_kept_as_a_hash(run: Run) -> None:
    ran = run("token", "create", "w1", "--skills", "a,b", "--expires", "2027-01-31T00:00:00Z")
    token = ran.out.strip()
    assert ran.code == Exit.OK
    assert len(token) == 43
    path = Path("workers.toml")
    assert path.stat().st_mode & 0o777 == 0o600
    assert token not in path.read_text()
    [entry] = read_workers_file(path).entries
    assert (entry.name, entry.skills, entry.expires_at) == ("w1", ("a", "b"), 1801353600.0)
    assert matches(token, entry.hashes[0])
    assert "AVTOMATIKA_WORKER_TOKEN" in ran.err
    assert "token reload" in ran.err
    assert token not in ran.err


def test_a_new_client(run: Run) -> None:
    options = ["--roles", "viewer", "--plan", "gold", "--monthly-attempts", "5"]
    ran = run("token", "create", "acme", "--client", *options, "-o", "json")
    assert ran.json["name"] == "acme"
    [entry] = read_clients_file(Path("clients.toml")).entries
    assert (entry.roles, entry.plan, entry.monthly_attempts) == (("viewer",), "gold", 5)
    assert matches(ran.json["token"], entry.hashes[0])


def test_what_else_is_in_the_file_stays(run: Run) -> None:
    text = '# who may talk\n\n[w1]  # the first\ntoken = "a-token-of-sixteen"\nskills = ["a"]\n'
    Path("workers.toml").write_text(text)
    Path("workers.toml").chmod(0o640)
    run("token", "create", "w2")
    changed = Path("workers.toml").read_text()
    assert changed.startswith(text)
    assert Path("workers.toml").stat().st_mode & 0o777 == 0o640
    run("token", "revoke", "w2")
    assert Path("workers.toml").read_text().strip() == text.strip()


def test_a_token_is_exchanged_in_two_steps(run: Run) -> None:
    Path("workers.toml").write_text('["pattern:gpu-*"]\ntoken = "the-very-old-token"\n')
    new = run("token", "rotate", "gpu-*").out.strip()
    [entry] = read_workers_file(Path("workers.toml")).entries
    assert entry.tokens == ()
    assert [
        matches(it, at) for it, at in zip((new, "the-very-old-token"), entry.hashes, strict=True)
    ]
    assert "the-very-old-token" not in Path("workers.toml").read_text()
    again = run("token", "rotate", "gpu-*")
    assert again.code == Exit.CONFLICT
    assert "--finish" in again.err
    assert run("token", "rotate", "gpu-*", "--finish").code == Exit.OK
    [entry] = read_workers_file(Path("workers.toml")).entries
    assert [matches(new, it) for it in entry.hashes] == [True]
    assert run("token", "rotate", "gpu-*", "--finish").code == Exit.CONFLICT


def test_a_list_shows_no_token(run: Run) -> None:
    Path("workers.toml").write_text('[w1]\ntoken = "the-very-old-token"\n')
    ran = run("token", "list")
    assert "the-very" not in ran.out
    assert ran.out.splitlines()[1].split() == ["w1", "1", "clear", "-", "anything", "-"]
    assert run("token", "list", "-o", "json").json[0]["kept"] == "clear"


@pytest.mark.parametrize(
    ("argv", "code", "fault"),
    [
        (["create", "w1"], Exit.CONFLICT, "token rotate"),
        (["create", "a.b"], Exit.USAGE, "worker ids have no dots"),
        (["create", "w2", "--expires", "soon"], Exit.USAGE, "2027-01-31T00:00:00Z"),
        (["create", "w2", "--roles", "admin"], Exit.USAGE, "--client"),
        (["create", "c", "--client", "--roles", "boss"], Exit.USAGE, "is no role"),
        (["create", "c", "--client", "--skills", "a"], Exit.USAGE, "--skills is for workers"),
        (["rotate", "w12"], Exit.NOT_FOUND, "did you mean 'w1'?"),
        (["revoke", "nobody"], Exit.NOT_FOUND, "token list"),
        (["list", "--file", "broken.toml"], Exit.USAGE, "broken.toml"),
        (["create", "w9", "--file", "broken.toml"], Exit.USAGE, "broken.toml"),
        (["create", "w9", "--file", "no/such/folder.toml"], Exit.FAILED, "cannot be written"),
    ],
)
def test_what_cannot_be_done_changes_nothing(
    run: Run, argv: list[str], code: Exit, fault: str
) -> None:
    Path("workers.toml").write_text('[w1]\ntoken = "the-very-old-token"\n')
    Path("broken.toml").write_text("[w1\n")
    before = {it: it.read_text() for it in Path().glob("*.toml")}
    ran = run("token", *argv)
    assert (ran.code, ran.out) == (code, "")
    assert fault in ran.err
    assert {it: it.read_text() for it in Path().glob("*.toml")} == before
    assert [it for it in Path().iterdir() if it.name.startswith(".w")] == []


def test_a_section_on_one_line_is_left_as_it_is(run: Run) -> None:
    text = 'w1 = { token = "the-very-old-token" }\n'
    Path("workers.toml").write_text(text)
    ran = run("token", "rotate", "w1")
    assert (ran.code, ran.out) == (Exit.CONFLICT, "")
    assert "write it as [w1] first" in ran.err
    assert Path("workers.toml").read_text() == text


def test_a_hash_of_ones_own_token(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("my-own-token-of-length\n"))
    hashed = run("token", "hash").out.strip()
    assert matches("my-own-token-of-length", hashed)
    monkeypatch.setattr("sys.stdin", io.StringIO("two words\n"))
    assert run("token", "hash").code == Exit.USAGE


def test_a_reload_tells_what_has_changed(run: Run, ask_for: Run) -> None:
    refused = ask_for("token", "reload")
    assert refused.code == Exit.USAGE
    assert "there is no workers.toml" in refused.err
    run("token", "create", "w1")
    ran = ask_for("token", "reload")
    assert ran.out == "workers: added w1\nclients: unchanged\n"
    assert "goes by generation" in ran.err
    Path("workers.toml").write_text('[w1]\ntokn = "x"\n')
    malformed = ask_for("token", "reload")
    assert malformed.code == Exit.USAGE
    assert "nothing was changed: workers.toml line 2, tokn" in malformed.err
    Path("workers.toml").write_text("")
    answer = ask_for("token", "reload", "-o", "json").json
    assert answer["workers"] == {"added": [], "removed": ["w1"], "changed": []}
