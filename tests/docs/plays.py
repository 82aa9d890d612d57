"""What is done with each block of shell in the docs: it is played, or there is a reason not to.

A page's blocks are named by their first line, in the order in which they are played.  Whoever
writes a new one adds it here: to `PLAYS`, with a function that plays it, to `INCLUDED` if the
page includes it from a file, or to `REASONS`.
"""

import re
from collections.abc import Callable, Mapping

import attrs
import trustme
from tests.docs import test_examples
from tests.docs.blocks import BLOCKS, Block
from tests.docs.sessions import Exchange, read_session
from tests.docs.stage import Stage, free_port
from tests.storage.redis_servers import start_server

TOKENS = {"CLIENT_TOKEN": "the-token-of-clients", "WORKER_TOKEN": "the-token-of-workers"}

#: As pages show it where a reader needs the generated token.
TOKEN = """TOKEN="$(sed -n 's/.*"client_token": "\\(.*\\)".*/\\1/p' avtomatika.tokens)\""""

SUBMIT = "avtomatika job submit films --data '{}' -o json | grep -om1 'p00-[0-9a-f]*'"


@attrs.frozen
class Play:
    """How the blocks of a page are played."""

    function: Callable[..., None]
    """Given a stage and the blocks."""
    blocks: tuple[str, ...]
    """Their first lines."""


def submitted(name: str, data: str) -> str:
    """What puts the id of a new job into the variable *name*."""
    return f"{name}=$({SUBMIT.replace('{}', data)})"


def the_readme(stage: Stage, three: Block) -> None:
    for block in BLOCKS:
        if (block.page, block.language) == ("README.md", "python"):
            stage.write(block.text.splitlines()[0].removeprefix("# "), block.text)
    serve, work, submit = read_session(stage.here(three.text))
    stage.terminal().type(serve, stays=True)
    stage.terminal().type(work, stays=True)
    stage.terminal().type(submit)


def large_files(stage: Stage, s3: Block, payloads: Block, outside: Block) -> None:
    stage.set(s3)
    stage.set(payloads)
    film = b"film" * 1000
    (stage.folder / "a.mp4").write_bytes(film)
    with stage.serving():
        terminal = stage.terminal()
        stage.enter(terminal, TOKEN, submitted("JOB", '{"path": "a", "wait": true}'))
        stage.play(terminal, outside, lambda it: it.replace("curl -L", "rm a.mp4 && curl -L"))
    assert (stage.folder / "a.mp4").read_bytes() == film


def look_into_a_job(stage: Stage, over_http: Block, commands: Block) -> None:
    def of_ours(command: str) -> str:
        command = command.replace("{job_id}", "$JOB").replace("{blueprint_name}", "films")
        return re.sub(r"\bID\b", "$JOB", re.sub(r"\bNAME\b", "films", command))

    with stage.serving():
        terminal = stage.terminal()
        stage.enter(terminal, submitted("JOB", '{"path": "a"}'))
        stage.play(terminal, over_http, of_ours)
        stage.play(terminal, commands, of_ours)
    assert (stage.folder / "graph.svg").stat().st_size > 0


def move_and_back_up(stage: Stage, check: Block, commands: Block, migrate: Block) -> None:
    (stage.folder / "backup").mkdir()
    stage.instead["/backup/"] = f"{stage.folder}/backup/"
    with stage.serving():
        terminal = stage.terminal()
        stage.enter(
            terminal,
            submitted("OPEN", '{"path": "a", "wait": true}'),
            submitted("ENDED", '{"path": "a"}'),
            "avtomatika job watch $ENDED",
        )
    # How many there are of what, and the id, differ.
    shown = re.sub(r"\b([0-9a-f]{16}|(?<!schema )\d+)\b", "...", check.text)
    stage.play(terminal, attrs.evolve(check, text=shown))
    with start_server() as server:
        for number, block in enumerate((commands, migrate)):
            stage.instead["redis://127.0.0.1/0"] = f"{server.url}/{number}"
            stage.play(terminal, block)
    assert (stage.folder / "restored.db").exists()


def run_as_a_service(stage: Stage, serve: Block, copy: Block) -> None:
    for folder in ("var", "etc", "backup"):
        (stage.folder / folder).mkdir()
    stage.instead |= {
        "/var/lib/avtomatika/": f"{stage.folder}/var/",
        "/etc/avtomatika/": f"{stage.folder}/etc/",
        "/backup/": f"{stage.folder}/backup/",
    }
    stage.write_films("etc/blueprints")
    stage.play(stage.terminal(), serve)
    stage.play(stage.terminal(), copy)
    assert (stage.folder / "backup" / "jobs.db").read_bytes().startswith(b"SQLite format 3")


def run_several(stage: Stage, on_each: Block) -> None:
    stage.write_films("etc/blueprints")
    for name, token in TOKENS.items():
        stage.write(f"etc/{name.lower().replace('_', '-')}", token)
    with start_server() as server:
        stage.instead |= {
            "/etc/avtomatika/": f"{stage.folder}/etc/",
            "redis://avtomatika:PASSWORD@redis.internal:6379/0": f"{server.url}/0",
        }
        for port in (stage.port, free_port()):
            stage.play(stage.terminal(API_PORT=str(port)), on_each)
            url = f"http://127.0.0.1:{port}"
            asking = stage.terminal(ORCHESTRATOR_URL=url, CLIENT_TOKEN=TOKENS["CLIENT_TOKEN"])
            stage.enter(asking, "avtomatika job list")
        stage.close()  # before the server


def secure(stage: Stage, worker: Block, tokens: Block, tls: Block) -> None:
    stage.set(worker)
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    (stage.folder / "etc").mkdir()
    stage.instead["/etc/avtomatika/"] = f"{stage.folder}/etc/"
    authority.cert_pem.write_to_path(str(stage.folder / "etc" / "workers-ca.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(stage.folder / "etc" / "server.pem"))
    certificate.private_key_pem.write_to_path(str(stage.folder / "etc" / "server.key"))
    stage.set(tls)
    with stage.serving():
        stage.play(stage.terminal(), tokens)
    assert "worker-video-1" not in (stage.folder / "workers.toml").read_text("utf-8")


def use_several(stage: Stage, work: Block, look: Block) -> None:
    main, backup, health = stage.port, free_port(), free_port()
    stage.instead |= {
        "main-orchestrator:8080": f"127.0.0.1:{main}",
        "backup-orchestrator:8080": f"127.0.0.1:{backup}",
    }
    stage.write(
        "my_worker.py",
        "from avtomatika_trio.worker import Worker\n\n"
        "worker = Worker()\nworker.skill('cut')(lambda params: {})\n",
    )
    for port in (main, backup):
        environ = {"API_PORT": str(port), "STORAGE_URL": f"sqlite:{port}.db", **TOKENS}
        stage.terminal(**environ).type(SERVE, stays=True)
    terminal = stage.terminal(WORKER_PORT=str(health), WORKER_TOKEN=TOKENS["WORKER_TOKEN"])
    stage.play(terminal, work)
    stage.play(stage.terminal(WORKER_PORT=str(health)), look)


SERVE = Exchange("avtomatika serve", "...\navtomatika ... serves\n")

PLAYS: Mapping[str, Play] = {
    "README.md": Play(the_readme, ("$ avtomatika serve --blueprints blueprints",)),
    "docs/how-to/large-files.md": Play(
        large_files,
        (
            "S3_ENDPOINT_URL=http://localhost:9000   # not for AWS",
            "WORKER_PAYLOAD_DIR=/var/lib/worker/payloads",
            (
                '$ curl -H "Authorization: Bearer $TOKEN" -T a.mp4'
                " http://localhost:8080/api/v1/jobs/$JOB/files/content/a.mp4"
            ),
        ),
    ),
    "docs/how-to/look-into-a-job.md": Play(
        look_into_a_job, (TOKEN, "avtomatika job list --status quarantined")
    ),
    "docs/how-to/move-and-back-up-a-storage.md": Play(
        move_and_back_up,
        (
            "$ avtomatika storage check",
            "avtomatika storage check",
            "$ avtomatika storage migrate sqlite:avtomatika.db redis://127.0.0.1/0",
        ),
    ),
    "docs/how-to/run-as-a-service.md": Play(
        run_as_a_service,
        (
            (
                "avtomatika serve --storage sqlite:/var/lib/avtomatika/jobs.db"
                " --blueprints /etc/avtomatika/blueprints"
            ),
            'sqlite3 /var/lib/avtomatika/jobs.db ".backup /backup/jobs.db"',
        ),
    ),
    "docs/how-to/run-several-orchestrators.md": Play(
        run_several, ("export STORAGE_URL=redis://avtomatika:PASSWORD@redis.internal:6379/0",)
    ),
    "docs/how-to/secure.md": Play(
        secure,
        (
            'WORKER_ID="worker-video-1"',
            "avtomatika token create worker-video-1     # prints the token, once",
            "TLS_ENABLED=true",
        ),
    ),
    "docs/how-to/use-several-orchestrators.md": Play(
        use_several, ("export ORCHESTRATORS_CONFIG='[", "$ avtomatika worker status")
    ),
}

#: Sessions that pages include, by their folder in `docs/examples`: what plays all of them.
INCLUDED: Mapping[str, Callable[..., None]] = {
    "first-job": test_examples.test_the_first_job,
    "watching": test_examples.test_watching,
}

#: What is not played, by page and first line.
REASONS: Mapping[tuple[str, str], str] = {
    (
        "README.md",
        "python3.11 -m venv .venv && .venv/bin/pip install -q nox && .venv/bin/nox -s demo",
    ): "installs from a registry; tests/demo runs what the session `demo` calls",
    (
        "README.md",
        "python3.11 -m venv .venv && .venv/bin/pip install -q nox && .venv/bin/nox -s tests",
    ): "these are the tests; .ci/run enters it in a fresh clone",
}
