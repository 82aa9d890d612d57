"""Files that params name, brought into an attempt's folder, all at the same time."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from avtomatika_trio._wire.file_metadata import flat_metadata
from avtomatika_trio.blobs import Advance, Blob, Blobs, Location, parse_uri
from avtomatika_trio.blobs._line import call_in_thread, check_line
from avtomatika_trio.blobs._together import in_turns, together
from avtomatika_trio.errors import BlobMismatch, BlobMissing, UnsafePath
from avtomatika_trio.worker._blob_cache import BlobCache
from avtomatika_trio.worker._containment import inside
from avtomatika_trio.worker._file_names import LocalNames, relative_names

#: Files of one attempt at a time; requests have a limit of their own.
FILES_AT_A_TIME = 8

_SHA256_LETTERS = 64


@attrs.define(eq=False)
class _Input:
    """One URI of the params."""

    at: Location
    files: Mapping[str, Blob]
    """What is fetched, by the name below the input's own; `` is the input itself."""
    expected: str | None
    """The sha256 that is known of it."""
    found: dict[str, str] = attrs.field(factory=dict)
    """The sha256 of each file, once it is here."""


class Inputs:
    """See the head of the module.

    Args:
        blobs: Where they come from.
        cache: Asked first.
        buckets: Which they may be in.
        root: The folder they go to.
    """

    def __init__(
        self, blobs: Blobs, cache: BlobCache | None, buckets: frozenset[str], root: Path
    ) -> None:
        self._blobs = blobs
        self._fetch = blobs.download if cache is None else partial(cache.fetch, blobs)
        self._buckets = buckets
        self._root = root
        self._inputs: dict[str, _Input] = {}
        self._names = LocalNames()

    @property
    def size(self) -> int:
        """What all of them take, in bytes; known after `look`."""
        return sum(blob.size for it in self._inputs.values() for blob in it.files.values())

    async def look(self, uris: Sequence[str], known: Mapping[str, Any]) -> None:
        """See what there is at *uris*.

        Args:
            uris: Each once.
            known: What they should be, by place in the params: `uri`, `size`, `etag`, `sha256`.

        Raises:
            BlobError: one is not there, may not be had, or is not what it should be.
            UnsafePath: the bucket is not allowed.
        """
        entries = [flat_metadata(it) for it in known.values() if isinstance(it, dict)]
        told = {it["uri"]: it for it in entries if isinstance(it.get("uri"), str)}
        places = [(uri, self._checked(uri)) for uri in uris]

        async def look(one: tuple[str, Location]) -> None:
            uri, at = one
            self._inputs[uri] = await self._look(at, told.get(uri, {}))

        await together(*in_turns(places, look, at_a_time=FILES_AT_A_TIME))
        self._inputs = {uri: self._inputs[uri] for uri in uris}  # in the order of the params

    def _checked(self, uri: str) -> Location:
        at = parse_uri(uri)
        if at.bucket not in self._buckets:
            allowed = ", ".join(sorted(self._buckets))
            raise UnsafePath(
                f"{uri}: files of the bucket {at.bucket!r} may not be used here; allowed are"
                f" {allowed} (S3_ALLOWED_BUCKETS)"
            )
        return at

    async def _look(self, at: Location, told: Mapping[str, Any]) -> _Input:
        sha256 = told.get("sha256")
        if isinstance(sha256, str) and len(sha256) == _SHA256_LETTERS:
            sha256 = sha256.lower()
        else:
            sha256 = None
        if at.is_folder:
            listed = await self._blobs.list(at)
            if not listed:
                raise BlobMissing(at.uri, "there is no file in it")
            return _Input(at, relative_names(at, listed), sha256)
        blob = await self._blobs.head(at)
        for name, found in (("size", blob.size), ("etag", blob.etag)):
            wanted = told.get(name)
            if isinstance(wanted, str):
                wanted = wanted.strip('"')
            if wanted not in (None, 0, "", found):
                raise BlobMismatch(at.uri, f"its {name} is {found}, not {wanted} as it was told")
        if sha256 is not None:
            blob = attrs.evolve(blob, checksum=("sha256", sha256))
        return _Input(at, {"": blob}, sha256)

    async def fetch(self, advance: Advance, target: Path | None = None) -> dict[str, str]:
        """Bring all; returns the path of each, by its URI.

        Args:
            advance: Called with the bytes that are here.
            target: Where the only one goes; without it they have names in the folder.

        Raises:
            BlobError: one cannot be had; none of them is left.
        """
        paths = {
            uri: target or self._root / self._names.name_for(it.at)
            for uri, it in self._inputs.items()
        }
        threads = trio.to_thread.current_default_thread_limiter()
        await call_in_thread(partial(self._make_folders, paths), threads)
        work = (
            (it, name, _below(paths[uri], name))
            for uri, it in self._inputs.items()
            for name in it.files
            if not name.endswith("/")
        )

        async def bring(one: tuple[_Input, str, Path]) -> None:
            it, name, path = one
            it.found[name] = await self._bring(it.files[name], path, advance)

        await together(*in_turns(work, bring, at_a_time=FILES_AT_A_TIME))
        for it in self._inputs.values():
            _check_folder(it)
        return {uri: str(path) for uri, path in paths.items()}

    async def _bring(self, blob: Blob, path: Path, advance: Advance) -> str:
        try:
            return await self._fetch(blob, path, advance)
        except BlobMismatch:
            # Once more: it may have been spoilt on its way.
            return await self._blobs.download(blob, path, advance)

    def _make_folders(self, paths: Mapping[str, Path]) -> None:
        for uri, it in self._inputs.items():
            for name in it.files:
                check_line()
                path = _below(paths[uri], name)
                folder = path if name.endswith("/") else path.parent
                inside(self._root, folder)
                folder.mkdir(0o700, parents=True, exist_ok=True)
            if it.at.is_folder:
                paths[uri].mkdir(0o700, parents=True, exist_ok=True)


def _below(path: Path, name: str) -> Path:
    return path / name if name else path


def _check_folder(it: _Input) -> None:
    if it.at.is_folder and it.expected is not None:
        found = manifest_digest(it.found)
        if found != it.expected:
            text = f"the sha256 of its files is {found}, not {it.expected} as it was told"
            raise BlobMismatch(it.at.uri, text)


def manifest_digest(files: Mapping[str, str]) -> str:
    """The sha256 of a folder: of the lines that `sha256sum` would print, sorted by name."""
    lines = (f"{sha256}  {name}\n" for name, sha256 in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
