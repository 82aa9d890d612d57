"""The files of its job, as a handler of a blueprint sees them: `task_files`."""

import builtins
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import trio

from avtomatika_trio._core.job import Job
from avtomatika_trio._core.known_files import SCHEME
from avtomatika_trio.blobs import Blob, Blobs, Location, parse_uri
from avtomatika_trio.blobs._disk import disk_faults
from avtomatika_trio.blobs._names import fault_of
from avtomatika_trio.errors import BlobMissing, BlobRefused, UnsafePath
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._file_names import folder_of
from avtomatika_trio.orchestrator._step_folder import StepFolder

T = TypeVar("T")

MOST_READ_BYTES = 64 * 1024 * 1024
"""The longest file that is read into memory."""


class JobFiles:
    """Files of one job, while one of its handlers runs.

    *Names* are relative to the job, such as `frames/0001.png`; where a file is read, what
    workers have returned - an `s3://` URI - may stand in the place of a name, if the file is
    of this job.  What a name has and where it is kept is the same for the clients' routes.

    Each method has a twin for handlers that are not `async`, with `_sync` after its name.

    Every method may raise `BlobError`; with a name that there cannot be, `UnsafePath`.

    Args:
        blobs: Where files are kept.
        job_id: Whose.
        folder: Where a folder for local copies is made, once there is need for one.
    """

    def __init__(self, blobs: Blobs, job_id: str, folder: Path) -> None:
        self._blobs = blobs
        self._prefix = folder_of(blobs.bucket, job_id)
        self._folder = StepFolder(folder, self._prefix.uri)
        self._calls: set[trio.CancelScope] = set()

    # The whole file at once.

    async def read(self, name: str) -> bytes:
        """The content of the file.

        Raises:
            BlobMissing: there is none.
            BlobRefused: it has more than 64 MiB; `download` it.
        """
        blob = await self._blobs.head(self._place(name))
        if blob.size > MOST_READ_BYTES:
            reason = f"it has {blob.size} bytes; read takes {MOST_READ_BYTES}, so download it"
            raise BlobRefused(blob.uri, reason)
        path = self._fresh_path()
        await self._blobs.download(blob, path, _ignore)

        def take() -> bytes:
            with disk_faults(blob.uri, "its copy cannot be read"):
                data = path.read_bytes()
                path.unlink()
                return data

        return await trio.to_thread.run_sync(take)

    async def write(self, name: str, data: bytes | str) -> str:
        """Keep *data*, a text as UTF-8, as that file; returns its URI.

        When this returns the file is where files are kept, for everybody.
        """
        at = self._place(name)
        content = data.encode() if isinstance(data, str) else bytes(data)
        path = self._fresh_path()

        def put() -> None:
            with disk_faults(at.uri, "it cannot be written"):
                path.write_bytes(content)

        await trio.to_thread.run_sync(put)
        blob = await self._upload(path, at)
        await trio.to_thread.run_sync(path.unlink)
        return blob.uri

    async def read_json(self, name: str) -> Any:
        """As `read`, decoded.

        Raises:
            ValueError: it is not JSON.
        """
        return json.loads(await self.read(name))

    async def write_json(self, name: str, value: Any) -> str:
        """As `write`, encoded.

        Raises:
            TypeError: *value* is nothing that JSON has.
        """
        return await self.write(name, json.dumps(value, ensure_ascii=False))

    # What there is.

    async def list(self, prefix: str = "") -> builtins.list[str]:
        """The names of all files of the job that begin with *prefix*, in order."""
        if prefix:
            _check(prefix.removesuffix("/"))
        start = self._prefix.key
        found = await self._blobs.list(self._prefix.at(start + prefix))
        return [blob.location.key.removeprefix(start) for blob in found]

    async def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        try:
            await self._blobs.head(self._place(name))
        except BlobMissing:
            return False
        return True

    # Local copies.

    def path_to(self, name: str) -> Path:
        """Where the local copy of the file belongs; there need be none.

        It is in a folder of this step, which is removed when the handler has ended; the
        folders that *name* has are made.  Not awaited, in any handler.
        """
        _check(name)
        path = self._folder.path / "files" / name
        with disk_faults(str(path), "its folder cannot be made"):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    async def open(self, name: str, mode: str = "rb") -> Any:
        """The local copy as an open file of Trio (`open_sync`: of Python).

        To read, the file is downloaded, unless its local copy is there already.  What is
        written stays local: `upload` it afterwards.

        Args:
            name: Of the file.
            mode: As of `open`.
        """
        return await trio.open_file(await self._local(name, mode), mode)

    def open_sync(self, name: str, mode: str = "rb") -> IO[Any]:
        """See `open`."""
        path = self._in_loop(self._local, name, mode)
        return path.open(mode)

    async def _local(self, name: str, mode: str) -> Path:
        path = self.path_to(self._name(name))
        if "r" in mode and not await trio.Path(path).exists():
            await self.download(name, path)
        return path

    async def download(self, name: str, path: Path | str | None = None) -> Path:
        """A local copy of the file, or of all files of a folder if *name* ends in `/`.

        Args:
            name: Of the file, or its URI.
            path: Where to; what is there is replaced.  None: see `path_to`.

        Returns:
            Where it is.
        """
        if name.endswith("/"):
            return await self._download_folder(name, path)
        at = self._place(name)
        target = self.path_to(self._name(name)) if path is None else Path(path)
        blob = await self._blobs.head(at)
        await self._download(blob, target)
        return target

    async def _download_folder(self, name: str, path: Path | str | None) -> Path:
        short = self._name(name).removesuffix("/")
        _check(short)
        folder = self.path_to(short) if path is None else Path(path)
        under = self._prefix.at(f"{self._prefix.key}{short}/")
        for blob in await self._blobs.list(under):
            rest = blob.location.key.removeprefix(under.key)
            if rest.endswith("/") or not rest:  # the mark of an empty folder
                await trio.Path(folder / rest).mkdir(parents=True, exist_ok=True)
                continue
            _check(rest)
            await trio.Path(folder / rest).parent.mkdir(parents=True, exist_ok=True)
            await self._download(blob, folder / rest)
        return folder

    async def _download(self, blob: Blob, target: Path) -> None:
        """Beside its target first: a copy that is there is whole."""
        part = target.with_name(f".{self._fresh_path().name}")
        await self._blobs.download(blob, part, _ignore)

        def move() -> None:
            with disk_faults(blob.uri, f"{target} cannot be replaced"):
                part.replace(target)

        await trio.to_thread.run_sync(move)

    async def upload(self, path: Path | str, name: str | None = None) -> str:
        """Keep the local file *path*; returns its URI.

        Args:
            path: A relative one is in the folder of `path_to`.
            name: Of the file; None: its place in that folder, or what *path* ends with.
        """
        local, usual = await self._source(path)
        blob = await self._upload(local, self._place(usual if name is None else name))
        return blob.uri

    async def upload_dir(self, path: Path | str, name: str | None = None) -> str:
        """Keep all files of the local folder *path*; returns the URI of all, which ends in `/`.

        Links to other places are left out.

        Args:
            path: As of `upload`.
            name: What the names of all begin with; None: as of `upload`.
        """
        local, usual = await self._source(path)
        under = self._place(usual if name is None else name.removesuffix("/"))

        def files() -> builtins.list[Path]:
            with disk_faults(under.uri, f"{local} cannot be looked at"):
                found = sorted(it for it in local.rglob("*") if it.is_file())
            return [it for it in found if not it.is_symlink()]

        for file in await trio.to_thread.run_sync(files):
            rest = file.relative_to(local).as_posix()
            _check(rest)
            await self._upload(file, under.at(f"{under.key}/{rest}"))
        return f"{under.uri}/"

    async def _source(self, path: Path | str) -> tuple[Path, str]:
        """The local file or folder, and the name that it has if it is given none."""
        root = self._folder.path / "files"
        local = root / path
        if local.is_relative_to(root):
            return local, local.relative_to(root).as_posix()
        return local, local.name

    async def _upload(self, path: Path, at: Location) -> Blob:
        def look() -> IO[bytes]:
            with disk_faults(at.uri, f"{path} cannot be read"):
                return path.open("rb")

        file = await trio.to_thread.run_sync(look)
        try:
            return await self._blobs.upload(file.fileno(), at, _ignore)
        finally:
            file.close()

    # Names and places.

    def _name(self, name: str) -> str:
        """*name*, or the name that the file of that URI has.

        Raises:
            BlobRefused: it is the URI of a file of another job, or of none.
        """
        if not name.startswith(SCHEME):
            return name
        at, prefix = parse_uri(name), self._prefix
        if at.bucket != prefix.bucket or not at.key.startswith(prefix.key):
            raise BlobRefused(name, f"it is not a file of this job: these are at {prefix.uri}")
        return at.key.removeprefix(prefix.key)

    def _place(self, name: str) -> Location:
        short = self._name(name)
        _check(short)
        return self._prefix.at(self._prefix.key + short)

    # The folder of this step.

    def _fresh_path(self) -> Path:
        """For a file that has no name of its own."""
        return self._folder.path / f"part-{uuid.uuid4().hex}"

    async def close(self) -> None:
        """End what threads still do here, and remove the folder; it cannot be used any more."""
        self._folder.is_over = True
        for call in self._calls:
            call.cancel()
        await self._folder.close()

    # For handlers in threads.

    def _in_loop(self, method: Callable[..., Awaitable[T]], *args: Any) -> T:
        return trio.from_thread.run(self._call, method, *args)

    async def _call(self, method: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run a method for a thread, which may go on when its handler's time is over."""
        if not self._folder.is_over:
            with trio.CancelScope() as scope:
                self._calls.add(scope)
                try:
                    return await method(*args)
                finally:
                    self._calls.discard(scope)
        raise RuntimeError("the step is over: task_files cannot be used any more")

    def read_sync(self, name: str) -> bytes:
        """See `read`."""
        return self._in_loop(self.read, name)

    def write_sync(self, name: str, data: bytes | str) -> str:
        """See `write`."""
        return self._in_loop(self.write, name, data)

    def read_json_sync(self, name: str) -> Any:
        """See `read_json`."""
        return self._in_loop(self.read_json, name)

    def write_json_sync(self, name: str, value: Any) -> str:
        """See `write_json`."""
        return self._in_loop(self.write_json, name, value)

    def list_sync(self, prefix: str = "") -> builtins.list[str]:
        """See `list`."""
        return self._in_loop(self.list, prefix)

    def exists_sync(self, name: str) -> bool:
        """See `exists`."""
        return self._in_loop(self.exists, name)

    def download_sync(self, name: str, path: Path | str | None = None) -> Path:
        """See `download`."""
        return self._in_loop(self.download, name, path)

    def upload_sync(self, path: Path | str, name: str | None = None) -> str:
        """See `upload`."""
        return self._in_loop(self.upload, path, name)

    def upload_dir_sync(self, path: Path | str, name: str | None = None) -> str:
        """See `upload_dir`."""
        return self._in_loop(self.upload_dir, path, name)


@asynccontextmanager
async def open_job_files(context: Context, job: Job) -> AsyncIterator[JobFiles | None]:
    """The files of *job* for one run of a handler; None where no files are kept.

    It costs nothing unless it is used; the end of the block removes all local copies.
    """
    if context.blobs is None:
        yield None
        return
    files = JobFiles(context.blobs, job.id, context.task_files_dir)
    try:
        yield files
    finally:
        await files.close()


def _check(name: str) -> None:
    fault = fault_of(name)
    if fault is not None:
        raise UnsafePath(f"{name!r} cannot be the name of a file: it {fault}")


def _ignore(_: int) -> None: ...
