"""Every check, by the name that CI calls it.  `nox -l` lists them; bare `nox` runs the quick ones.

Sessions install the project as it is in this folder, with the dependency groups of its
`pyproject.toml` (read here, so that an old pip will do).
"""

from pathlib import Path

import nox

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)

nox.needs_version = ">=2025.10.14"  # which has `download_python`
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"  # use the Pythons of this machine
nox.options.sessions = ["lint", "types", "architecture", "tests", "docs"]
# A machine that has one of the Pythons can run all of the sessions, in that one; also in CI.
nox.options.error_on_missing_interpreters = False


def install(session: nox.Session, *groups: str) -> None:
    """Install the project and the dependency *groups*."""
    session.install("-e", ".", *nox.project.dependency_groups(PROJECT, *groups))


@nox.session
def lint(session: nox.Session) -> None:
    """Style, and the mistakes that a linter sees; changes nothing."""
    session.install(*nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """mypy, strict, on everything."""
    install(session, "types")
    session.run("mypy", *session.posargs)


@nox.session
def architecture(session: nox.Session) -> None:
    """Who may import whom."""
    install(session, "architecture")
    session.run("lint-imports")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Everything but `e2e`, one process for each core; about six minutes on two of them."""
    install(session, "tests")
    session.run(
        *("pytest", "-m", "not e2e", "--doctest-modules", "-n", "logical", "--maxprocesses", "8"),
        *(session.posargs or ("tests", "src/avtomatika_trio/_core")),
    )


@nox.session
def e2e(session: nox.Session) -> None:
    """Real processes, real sockets, real signals."""
    install(session, "tests")
    session.run("pytest", "-m", "e2e", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the pages into `build/docs`; a warning is an error."""
    install(session, "docs")
    session.run("sphinx-build", "-nW", "--keep-going", "docs", "build/docs", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """Run the main job on real input: `nox -s demo`, `nox -s demo -- --kill`."""
    install(session)
    session.run("avtomatika", "demo", *session.posargs)


@nox.session(name="drill-failover")
def drill_failover(session: nox.Session) -> None:
    """Kill one of two orchestrators every 5 seconds, for a minute: nothing is lost or doubled."""
    install(session)
    session.run("python", "-m", "tests.drills.failover", *session.posargs)


@nox.session(name="drill-cluster")
def drill_cluster(session: nox.Session) -> None:
    """Kill orchestrators, workers and Redis for five minutes: nothing is lost, doubled or late."""
    install(session, "tests")  # has a server, should the machine have none
    session.run("python", "-m", "tests.drills.cluster", *session.posargs)


@nox.session(name="drill-files")
def drill_files(session: nox.Session) -> None:
    """Send 5 GiB to a real S3 server and back: the same, and less than 64 MiB of memory."""
    install(session, "tests")  # has the server
    session.run("python", "-m", "tests.drills.files", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure: all of `benchmarks/bench_*.py`, or `nox -s bench -- storage` for some."""
    install(session, "bench")  # has the servers, and peers
    wanted = session.posargs or ["*"]
    for path in sorted(
        path for name in wanted for path in Path("benchmarks").glob(f"bench_{name}.py")
    ):
        session.run("python", "-m", f"benchmarks.{path.stem}")
