"""The files of a cluster for tests, in a folder that goes with it."""

import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from avtomatika_trio.blobs import Blobs, Location, Unfinished, parse_uri
from avtomatika_trio.blobs._folder import DEFAULT_BUCKET, FolderBlobs
from avtomatika_trio.errors import BlobRefused
from avtomatika_trio.orchestrator._file_names import folder_of

Content = bytes | str


#: How many files are copied at a time.
_THREADS = 10


class _KitBlobs(FolderBlobs):
    """Blobs of a folder of which only this process knows."""

    async def unfinished(self, under: Location) -> Sequence[Unfinished]:
        del under  # no process dies here: there is none, and no thread that looks for some
        await trio.lowlevel.checkpoint()
        return ()


@attrs.frozen(kw_only=True)
class KitFiles:
    """Where a cluster for tests keeps files, and what its workers are told of that."""

    folder: Path
    blobs: Blobs
    are_given: bool
    """Whether the test has given any: else only workers have files that ask for `task_files`."""
    buckets: tuple[str, ...]
    """What the test's own files are in."""

    @property
    def task_files_dir(self) -> Path:
        """For the orchestrator's local copies."""
        return self.folder / "steps"

    def settings(self, *, wants_files: bool, allowed: Iterable[str]) -> dict[str, Any]:
        """What a worker has of `WorkerSettings` for files.

        Args:
            wants_files: Whether one of its handlers asks for `task_files`.
            allowed: The buckets that it may use anyway.
        """
        return {
            "payload_dir": self.folder / "payloads",
            "files_dir": self.folder / "files" if wants_files or self.are_given else None,
            "s3_allowed_buckets": (*allowed, *self.buckets),
        }

    async def put(self, uri: str, content: Content) -> str:
        """Keep *content*, a text as UTF-8, at *uri*; returns *uri*.

        Raises:
            TypeError: *content* is neither bytes nor a text.
            ValueError: *uri* is not that of a file.
        """
        if not isinstance(content, bytes | str):
            raise TypeError(f"{uri}: the content of a file is bytes or a text, not {content!r}")
        with tempfile.TemporaryFile() as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            await self.blobs.upload(file.fileno(), _place(uri), _ignore)
        return uri

    async def read(self, uri: str) -> bytes:
        """The content of the file at *uri*.

        Raises:
            BlobMissing: there is none.
            ValueError: *uri* is not that of a file.
        """
        at = _place(uri)
        await self.blobs.head(at)
        return self._content(at)

    async def of_job(self, job_id: str) -> dict[str, bytes]:
        """The content of each file of a job, by its name."""
        under = folder_of(self.blobs.bucket, job_id)
        found = [it.location for it in await self.blobs.list(under) if not it.location.is_folder]
        return {at.key.removeprefix(under.key): self._content(at) for at in found}

    def _content(self, at: Location) -> bytes:
        path = self.blobs.local(at)
        assert path is not None
        return path.read_bytes()


@asynccontextmanager
async def open_kit_files(given: Mapping[str, Content] | None) -> AsyncIterator[KitFiles]:
    """A place for files, which is gone after the block.

    Args:
        given: What is there from the beginning, by URI.

    Raises:
        TypeError: it is something else.
        ValueError: one has no such URI.
    """
    if not isinstance(given, Mapping | None):
        raise TypeError(f"files is a dict of URIs and contents, not {given!r}")
    places = [_place(uri) for uri in given or {}]
    with _temporary_folder() as folder:
        files = KitFiles(
            folder=folder,
            blobs=_KitBlobs(folder / "files", DEFAULT_BUCKET, trio.CapacityLimiter(_THREADS)),
            are_given=given is not None,
            buckets=tuple(sorted({at.bucket for at in places})),
        )
        for uri, content in (given or {}).items():
            await files.put(uri, content)
        yield files


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    cleaning = tempfile.TemporaryDirectory(prefix="avtomatika-test-", ignore_cleanup_errors=True)
    with cleaning as made:
        yield Path(made).resolve()


def _place(uri: str) -> Location:
    try:
        at = parse_uri(str(uri))
    except BlobRefused as exc:
        raise ValueError(f"{exc}; give a URI such as 's3://films/a.mov'") from None
    if at.is_folder or not at.key:
        raise ValueError(f"{uri} names no file; give a URI such as 's3://films/a.mov'")
    return at


def _ignore(_: int) -> None: ...
