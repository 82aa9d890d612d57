"""`task_files`: what a handler does with the files of its attempt."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

import trio

from avtomatika_trio.errors import UnsafePath
from avtomatika_trio.worker._attempt_files import AttemptFiles
from avtomatika_trio.worker._containment import files_in, inside

T = TypeVar("T")


class TaskFiles:
    """The folder of one attempt; a handler asks for it with a parameter `task_files`.

    Every name is relative to the folder, or an absolute path in it; folders above a file that
    is written are made.  What leads out is refused with `UnsafePath`.  The folder goes when
    the attempt ends: what is to stay is uploaded, by `upload` or by returning its path.

    The methods are for `async def` handlers; a `def` handler, which runs in a thread, uses
    those of the same name with `_sync`.
    """

    def __init__(self, files: AttemptFiles) -> None:
        self._files = files

    @property
    def root(self) -> Path:
        """The folder itself."""
        return self._files.root

    def path_to(self, name: str) -> Path:
        """The path of *name* in the folder; the folder that it is in is made.

        Raises:
            UnsafePath: it leads out.
        """
        path = inside(self.root, name)
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        return path

    def read_sync(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            UnsafePath: its name leads out.
            OSError: it cannot be read.
        """
        return inside(self.root, name).read_bytes()

    def write_sync(self, name: str, data: bytes | str) -> Path:
        """Write *data* (a text as UTF-8) to a file and tell its path; it replaces what was there.

        Raises:
            UnsafePath: its name leads out.
            OSError: it cannot be written.
        """
        path = self.path_to(name)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def read_json_sync(self, name: str) -> Any:
        """The JSON value in a file.

        Raises:
            UnsafePath: its name leads out.
            ValueError: it is not JSON.
        """
        return json.loads(self.read_sync(name))

    def write_json_sync(self, name: str, value: Any) -> Path:
        """Write *value* as JSON to a file and tell its path.

        Raises:
            UnsafePath: its name leads out.
            TypeError: it is no JSON value.
        """
        return self.write_sync(name, json.dumps(value, ensure_ascii=False))

    def list_sync(self, name: str = ".") -> list[str]:
        """The files below a folder, their names relative to it, sorted.

        Raises:
            UnsafePath: the name, or a link in the folder, leads out.
        """
        folder = inside(self.root, name)
        return sorted(it for it, _ in files_in(self.root, folder) if it and not it.endswith("/"))

    def exists_sync(self, name: str) -> bool:
        """Whether there is a file or a folder of that name.

        Raises:
            UnsafePath: it leads out.
        """
        return inside(self.root, name).exists()

    def open_sync(self, name: str, mode: str = "rb") -> IO[Any]:
        """Open a file, as the function `open` does.

        Raises:
            UnsafePath: its name leads out.
            OSError: it cannot be opened.
        """
        encoding = None if "b" in mode else "utf-8"
        return self.path_to(name).open(mode, encoding=encoding)

    def upload_sync(self, name: str) -> str:
        """As `upload`, from a thread of a handler."""
        return trio.from_thread.run(self.upload, name)

    def upload_dir_sync(self, name: str = ".") -> str:
        """As `upload_dir`, from a thread of a handler."""
        return trio.from_thread.run(self.upload_dir, name)

    def download_sync(self, uri: str, name: str | None = None) -> Path:
        """As `download`, from a thread of a handler."""
        return trio.from_thread.run(self.download, uri, name)

    async def read(self, name: str) -> bytes:
        """As `read_sync`."""
        return await _in_thread(partial(self.read_sync, name))

    async def write(self, name: str, data: bytes | str) -> Path:
        """As `write_sync`."""
        return await _in_thread(partial(self.write_sync, name, data))

    async def read_json(self, name: str) -> Any:
        """As `read_json_sync`."""
        return await _in_thread(partial(self.read_json_sync, name))

    async def write_json(self, name: str, value: Any) -> Path:
        """As `write_json_sync`."""
        return await _in_thread(partial(self.write_json_sync, name, value))

    async def list(self, name: str = ".") -> list[str]:
        """As `list_sync`."""
        return await _in_thread(partial(self.list_sync, name))

    async def exists(self, name: str) -> bool:
        """As `exists_sync`."""
        return await _in_thread(partial(self.exists_sync, name))

    async def open(self, name: str, mode: str = "rb") -> "trio._file_io.AsyncIOWrapper[Any]":
        """Open a file whose methods are awaited: `async with await task_files.open(...)`.

        Raises:
            UnsafePath: its name leads out.
            OSError: it cannot be opened.
        """
        return trio.wrap_file(await _in_thread(partial(self.open_sync, name, mode)))

    async def upload(self, name: str) -> str:
        """Upload a file now; returns its `s3://` URI.  Below it no other attempt writes.

        Raises:
            UnsafePath: its name leads out, or it is no regular file.
            BlobError: it cannot be uploaded.
            FileNotFoundError: it is not there.
        """
        return await self._files.upload(await _in_thread(partial(inside, self.root, name)))

    async def upload_dir(self, name: str = ".") -> str:
        """As `upload`, of a folder with all that is in it; the URI ends in `/`."""
        return await self.upload(name)

    async def download(self, uri: str, name: str | None = None) -> Path:
        """Download `s3://bucket/key`, or all below it if it ends in `/`; returns the path.

        Args:
            uri: In one of the allowed buckets.
            name: Where to; the last part of the key without it.  Must not exist.

        Raises:
            UnsafePath: the name leads out, or the bucket is not allowed.
            BlobError: it cannot be had.
        """
        wanted = name or uri.rstrip("/").rpartition("/")[2]
        path = await _in_thread(partial(self.path_to, wanted))
        if path == self.root:
            raise UnsafePath(f"{wanted!r} is the folder of the attempt itself; give a name")
        await self._files.fetch_one(uri, path)
        return path


async def _in_thread(call: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(call)
