"""Files that a result names, brought from an attempt's folder to where files are kept."""

import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from avtomatika_trio._core.known_files import texts_in
from avtomatika_trio.blobs import Advance, Blob, Blobs, Location
from avtomatika_trio.blobs._line import call_in_thread
from avtomatika_trio.blobs._names import fault_of
from avtomatika_trio.blobs._together import in_turns, together
from avtomatika_trio.errors import BlobError, PermanentError, UnsafePath
from avtomatika_trio.worker._containment import LinkCount, files_in, open_inside
from avtomatika_trio.worker._inputs import FILES_AT_A_TIME, manifest_digest

logger = logging.getLogger(__name__)

#: What is longer is no path (`PATH_MAX` of linux/limits.h).
_LONGEST_PATH = 4096


def candidates(data: Any) -> list[tuple[str, str]]:
    """The texts in *data* that may be absolute paths, with their places."""
    return [
        (place, text)
        for place, text in texts_in(data)
        if text.startswith("/") and len(text) < _LONGEST_PATH and "\0" not in text
    ]


@attrs.define(eq=False)
class _Output:
    """One path that the result names."""

    location: Location
    files: Mapping[str, tuple[Path, int]]
    """What is uploaded, by the name below the output's own, with its size; `` is itself."""
    blobs: dict[str, Blob] = attrs.field(factory=dict)


class Outputs:
    """See the head of the module.

    Args:
        blobs: Where they go.
        root: The attempt's folder.
        prefix: What their keys begin with.
        payload_dirs: What attempts have their folders in.
        uploaded: What the attempt has uploaded so far, whatever became of it in its folder;
            added to.
    """

    def __init__(
        self,
        blobs: Blobs,
        root: Path,
        prefix: str,
        payload_dirs: Sequence[Path],
        uploaded: dict[Location, Blob] | None = None,
    ) -> None:
        self._blobs = blobs
        self._root = root
        self._prefix = prefix
        self._payload_dirs = tuple(payload_dirs)
        self._uploaded = {} if uploaded is None else uploaded
        self._outputs: dict[str, _Output] = {}
        self._links = LinkCount(root)

    async def find(self, named: Sequence[tuple[str, str]]) -> int | None:
        """Look which of *named* are to be uploaded; returns how many bytes, None: no file.

        Raises:
            UnsafePath: one leads out of the attempt's folder.
            PermanentError: one has a name that cannot be kept.
        """
        threads = trio.to_thread.current_default_thread_limiter()
        await call_in_thread(partial(self._find, named), threads)
        return sum(size for _, size in self._wanted().values()) if self._outputs else None

    def _wanted(self) -> dict[Location, tuple[Path, int]]:
        """What is uploaded: each file once, also if it is named by itself and in its folder."""
        return {
            it.location.at(it.location.key + name): file
            for it in self._outputs.values()
            for name, file in it.files.items()
        }

    def _find(self, named: Sequence[tuple[str, str]]) -> None:
        real_root = Path(os.path.realpath(self._root))
        for _, text in named:
            real = Path(os.path.realpath(text))
            if text in self._outputs:
                continue
            if not real.is_relative_to(real_root):
                self._check(text)
            elif _exists(real):
                self._outputs[text] = self._output(real, real.relative_to(real_root).as_posix())
            else:
                logger.warning("the result names %s, which is not there; it is left as it is", text)

    def _check(self, text: str) -> None:
        """Raise UnsafePath if *text*, which is not in the attempt's folder, tries to look so."""
        # By its parts, as it is written: `..` in it is just what is looked for.
        looks_so = any(Path(text).is_relative_to(it) for it in self._payload_dirs)
        if not looks_so or not _exists(Path(text)):
            return
        logger.warning("security: a result names %s, outside of the folder of its attempt", text)
        raise UnsafePath(
            f"the result names {text!r}, which is outside of the folder of this attempt; only"
            " files in it are uploaded: write them to task_files.path_to(...)"
        )

    def _output(self, real: Path, relative: str) -> _Output:
        stem = "" if relative == "." else relative
        self._check_name(stem)
        if not real.is_dir():
            location = Location(self._blobs.bucket, f"{self._prefix}{stem}")
            return _Output(location, {"": (real, self._size_of(real))})
        key = f"{self._prefix}{stem}/" if stem else self._prefix
        files: dict[str, tuple[Path, int]] = {}
        for name, path in files_in(self._root, real):
            self._check_name(f"{stem}/{name}" if stem else name)
            files[name] = path, 0 if path.is_dir() else self._size_of(path)
        return _Output(Location(self._blobs.bucket, key), files)

    def _check_name(self, name: str) -> None:
        """Refuse a name by which nobody could read the file: the task's id is a part of it."""
        task_id = self._prefix.split("/")[2]
        fault = fault_of(f"{task_id}/{name}".removesuffix("/"))
        if fault is not None:
            raise PermanentError(f"a file's name {fault}: {name!a}; rename it")

    def _size_of(self, path: Path) -> int:
        """Of a file that may be uploaded: all are looked at before the first one is."""
        descriptor = open_inside(self._root, path, self._links)
        try:
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    async def put(self, advance: Advance) -> dict[str, dict[str, Any]]:
        """Upload all that was found; returns what to tell of each, by its path.

        Raises:
            BlobError: one cannot be uploaded.
            UnsafePath: one is not what it seemed to be when it was found.
        """
        wanted = self._wanted()
        self._links = LinkCount(self._root)  # as it is now

        async def put(at: Location) -> None:
            self._uploaded[at] = await self._put(wanted[at][0], at, advance)

        await together(*in_turns(wanted, put, at_a_time=FILES_AT_A_TIME))
        for it in self._outputs.values():
            # Whoever fetches a folder gets all that is there.
            key = it.location.key
            it.blobs = {
                at.key.removeprefix(key): blob
                for at, blob in self._uploaded.items()
                if at.key == key or (it.location.is_folder and at.key.startswith(key))
            }
        return {text: _entry(it) for text, it in self._outputs.items()}

    async def _put(self, path: Path, at: Location, advance: Advance) -> Blob:
        opening = (
            _empty_file if at.is_folder else partial(open_inside, self._root, path, self._links)
        )
        try:
            descriptor = await trio.to_thread.run_sync(opening)
        except OSError as exc:
            raise BlobError(at.uri, f"{path} cannot be read: {exc.strerror or exc}") from exc
        try:
            return await self._blobs.upload(descriptor, at, advance)
        finally:
            os.close(descriptor)


def _empty_file() -> int:
    """What marks a folder that has nothing in it."""
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # no file has such a name
        return False


def _entry(it: _Output) -> dict[str, Any]:
    if not it.location.is_folder:
        blob = it.blobs[""]
        return {"uri": blob.uri, "size": blob.size, "etag": blob.etag, "sha256": blob.sha256}
    sha256 = manifest_digest(
        {name: blob.sha256 or "" for name, blob in it.blobs.items() if not blob.location.is_folder}
    )
    size = sum(blob.size for blob in it.blobs.values())
    return {
        "uri": it.location.uri,
        "size": size,
        "etag": sha256,
        "sha256": sha256,
        "files": sum(not blob.location.is_folder for blob in it.blobs.values()),
    }
