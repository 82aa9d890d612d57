"""Section 3 of the page that the product was asked for with, as written: two workers pass files
and folders through three states; and what is left of a worker that is killed while it uploads.
"""

import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.blobs.s3_server import BUCKET, S3Server, run_s3_server
from tests.e2e.killing import CLIENT_TOKEN, Program, lasting_port

from avtomatika_trio.client import Client

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

# The block of section 3 of that page, word by word; the port and the folder are the test's.
WORKER_ENV = """\
S3_ENDPOINT_URL=http://localhost:9000
S3_ACCESS_KEY=minioadmin
S3_SECRET_KEY=minioadmin
S3_BUCKET=worker-results
WORKER_PAYLOAD_DIR=/tmp/payloads # Directorio permitido para carga
"""

FILM = b"once upon a time in a bucket"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with run_s3_server() as server:
        yield server


def env_of_page(s3: S3Server, folder: Path) -> dict[str, str]:
    words = [shlex.split(line, comments=True) for line in WORKER_ENV.splitlines()]
    environ = dict(word[0].split("=", 1) for word in words)
    environ["S3_ENDPOINT_URL"] = environ["S3_ENDPOINT_URL"].replace("9000", str(s3.port))
    return environ | {"WORKER_PAYLOAD_DIR": str(folder / "payloads")}


class Studio:
    """An orchestrator and the workers of a film, with a place for files."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self.environ = dict(environ)
        self.port = lasting_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.programs: list[Program] = []
        arguments = ["serve", "--storage", "sqlite:e2e.db", "--port", str(self.port)]
        arguments += ["--blueprints", "files_blueprints", "-o", "json"]
        self.orchestrator = Program("orchestrator", arguments, folder, self.environ)
        self.programs.append(self.orchestrator)
        self.orchestrator.start()
        self.orchestrator.said()

    def add_worker(self, name: str, skills: str, **environ: str) -> Program:
        program = Program(
            name,
            ["worker", "run", "films_worker:worker", "--spool-dir", f"spool-{name}"],
            self.folder,
            {
                **self.environ,
                "E2E_SKILLS": skills,
                "ORCHESTRATOR_URL": self.url,
                "HEARTBEAT_INTERVAL": "1",
                **environ,
            },
        )
        program.start()
        self.programs.append(program)
        return program

    def submit(self, film: str, **more: Any) -> str:
        with self.client() as client:
            return client.submit("film", {"film": film, **more})

    def wait(self, job_id: str) -> dict[str, Any]:
        with self.client() as client:
            return client.wait(job_id, timeout_seconds=90).raw

    def client(self) -> Client:
        return Client(self.url, CLIENT_TOKEN)

    def get(self, path: str, **query: Any) -> httpx.Response:
        headers = {"X-Client-Token": CLIENT_TOKEN}
        return httpx.get(f"{self.url}/api/v1{path}", headers=headers, params=query)

    def left_in_payloads(self) -> list[Path]:
        return [it for it in (self.folder / "payloads").rglob("*") if it.is_file()]


@pytest.fixture
def open_studio(tmp_path: Path) -> Iterator[Callable[[Mapping[str, str]], Studio]]:
    opened: list[Studio] = []

    def opening(environ: Mapping[str, str]) -> Studio:
        opened.append(Studio(tmp_path, environ))
        return opened[-1]

    yield opening
    for studio in opened:
        for program in reversed(studio.programs):
            program.kill()


def until(is_so: Callable[[], object], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def test_the_page_as_written(
    s3: S3Server, open_studio: Callable[[Mapping[str, str]], Studio], tmp_path: Path
) -> None:
    studio = open_studio(env_of_page(s3, tmp_path))
    client = s3.client()
    client.put_object(Bucket=BUCKET, Key="inputs/film.txt", Body=FILM)
    first = studio.add_worker("first", "cut,join")
    second = studio.add_worker("second", "paint")
    size = 20 * 1024**2
    job_id = studio.submit(f"s3://{BUCKET}/inputs/film.txt", size=size)
    job = studio.wait(job_id)
    assert job["status"] == "finished", job
    result = job["result"]
    assert result["text"] == FILM.upper().decode()
    assert result["size"] == len(FILM) + size
    # What was a path on a worker is a URI now, below the attempt that wrote it.
    for uri, end in (
        (result["frames"], "/frames/"),
        (result["whole"]["file"], "/whole.bin"),
        (result["painted"], "/painted/"),
        (result["film"], "/film.bin"),
    ):
        assert uri.startswith(f"s3://{BUCKET}/jobs/{job_id}/")
        assert uri.endswith(end)
    key = result["film"].removeprefix(f"s3://{BUCKET}/")
    assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == FILM.upper()
    told = result["cut"]["data_metadata"]
    assert told["whole.file"]["uri"] == result["whole"]["file"]
    assert told["whole.file"]["size"] == len(FILM) + size
    assert len(told["whole.file"]["sha256"]) == 64
    assert told["frames"]["files"] == 7
    assert result["shown"] == FILM.upper().decode()
    check_as_client(studio, job_id, result)
    # Nothing stays on the workers.
    assert studio.left_in_payloads() == [
        it for it in studio.left_in_payloads() if it.name == "lock"
    ]
    assert (first.end(), second.end()) == (0, 0)
    assert not any((tmp_path / "payloads").iterdir())


def check_as_client(studio: Studio, job_id: str, result: dict[str, Any]) -> None:
    """The owner of the job lists its files, those of workers too, and downloads them."""
    listed = {it["name"]: it for it in studio.get(f"/jobs/{job_id}/files").json()["files"]}
    assert set(listed) == {*result["files"]}
    assert listed["credits.json"]["size"] > 0
    (name,) = (it for it in listed if it.endswith("/film.bin"))
    assert listed[name]["uri"] == result["film"]
    headers = {"X-Client-Token": CLIENT_TOKEN}
    url = f"{studio.url}/api/v1/jobs/{job_id}/files/download/{name}"
    found = httpx.get(url, headers=headers)
    if found.is_redirect:
        found = httpx.get(found.headers["location"])  # as anybody: it is signed
    assert (found.status_code, found.content) == (200, FILM.upper())
    assert httpx.get(url).status_code == 401


def test_one_machine_without_s3(
    open_studio: Callable[[Mapping[str, str]], Studio], tmp_path: Path
) -> None:
    files = {"FILES_DIR": str(tmp_path / "files"), "WORKER_PAYLOAD_DIR": str(tmp_path / "payloads")}
    studio = open_studio(files)
    # The job waits for a worker, so its input can be given to it.
    job_id = studio.submit("s3://avtomatika-payloads/inputs/film.txt")
    path = tmp_path / "files" / "avtomatika-payloads" / "inputs" / "film.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(FILM)
    put = httpx.put(
        f"{studio.url}/api/v1/jobs/{job_id}/files/content/notes/first cut.txt",
        content=iter([b"too ", b"long"]),
        headers={"X-Client-Token": CLIENT_TOKEN},
    )
    assert put.status_code == 200, put.text
    assert put.json()["size"] == 8
    studio.add_worker("first", "cut,join")
    studio.add_worker("second", "paint")
    job = studio.wait(job_id)
    assert job["status"] == "finished", job
    assert job["result"]["text"] == FILM.upper().decode()
    assert "notes/first cut.txt" in job["result"]["files"]
    check_as_client(studio, job_id, job["result"])


def test_a_worker_that_is_killed_while_it_uploads_leaves_nothing_in_the_bucket(
    s3: S3Server, open_studio: Callable[[Mapping[str, str]], Studio], tmp_path: Path
) -> None:
    studio = open_studio(env_of_page(s3, tmp_path))
    client = s3.client()
    client.put_object(Bucket=BUCKET, Key="inputs/film.txt", Body=FILM)
    first = studio.add_worker("first", "cut,paint,join")
    job_id = studio.submit(f"s3://{BUCKET}/inputs/film.txt", size=700 * 1024**2)

    def uploads() -> list[Any]:
        found = client.list_multipart_uploads(Bucket=BUCKET, Prefix=f"jobs/{job_id}/")
        uploads: list[Any] = found.get("Uploads", [])
        return uploads

    def is_told(text: str) -> bool:
        progress = studio.get(f"/jobs/{job_id}").json()["progress"]
        return any(text in it["message"] and " of 700.0 MiB" in it["message"] for it in progress)

    until(uploads, 60, "it does not begin to upload")
    until(lambda: is_told("uploading: "), 20, "its progress is not told")
    first.kill()
    assert uploads(), "it was too fast to be killed in the middle"
    assert studio.left_in_payloads()
    first.start()
    until(lambda: not uploads() or not first.runs, 30, "the upload is not taken back")
    first.check()
    job = studio.wait(job_id)
    assert job["status"] == "finished", job
    assert job["result"]["text"] == FILM.upper().decode()
    assert uploads() == []
    assert first.end() == 0
    assert not any((tmp_path / "payloads").iterdir())
    assert (tmp_path / "spool-first" / "uploads").exists()
