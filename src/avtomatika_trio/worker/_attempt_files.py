"""The files of one attempt: inputs before its handler runs, outputs after it.

The folder and everything in it go with the attempt, however that ends.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import attrs
import trio

from avtomatika_trio._core.known_files import uris_in
from avtomatika_trio.blobs import Blob, Blobs, Location
from avtomatika_trio.errors import PermanentError, TransientError
from avtomatika_trio.worker._blob_cache import BlobCache
from avtomatika_trio.worker._containment import safe_component
from avtomatika_trio.worker._file_names import leaves_in, with_texts
from avtomatika_trio.worker._inputs import Inputs
from avtomatika_trio.worker._outcome import PERMANENT, Outcome, failed
from avtomatika_trio.worker._outputs import Outputs, candidates
from avtomatika_trio.worker._payload_folder import remove_tree
from avtomatika_trio.worker._quota import DiskQuota

_NO_STORE = (
    "this worker has no place for files; set S3_ENDPOINT_URL, S3_ACCESS_KEY, S3_SECRET_KEY and"
    " S3_BUCKET, or FILES_DIR"
)


@attrs.frozen(kw_only=True, eq=False)
class FilePlaces:
    """What the attempts of one worker share."""

    folder: Path | None
    """The folder of this run; None: no attempt can have files."""
    payload_dirs: tuple[Path, ...]
    """What it is in: as the settings say, and with links followed."""
    blobs: Blobs | None
    """None: params and results are left as they are."""
    buckets: frozenset[str] = frozenset()
    """From which params may name files."""
    cache: BlobCache | None = None
    quota: DiskQuota


Tell = Callable[[float, str], None]
"""How far a transfer is, from 0 to 1, and what it is."""


@attrs.define(eq=False)
class AttemptFiles:
    """See the head of the module.

    Args:
        places: What the worker has.
        job_id: Whose task it is.
        task_id: The attempt's wire id.
        tell: Told how far transfers are.
    """

    places: FilePlaces
    job_id: str
    task_id: str
    tell: Tell
    is_left: bool = attrs.field(default=False, init=False)
    """Whether a thread may still use the folder: it stays until the worker ends."""
    _taken: int = attrs.field(default=0, init=False)
    _is_made: bool = attrs.field(default=False, init=False)
    _is_over: bool = attrs.field(default=False, init=False)
    _transfers: set[trio.CancelScope] = attrs.field(factory=set, init=False)
    _uploaded: dict[Location, Blob] = attrs.field(factory=dict, init=False)
    _asking: trio.Lock = attrs.field(factory=trio.Lock, init=False)

    @property
    def root(self) -> Path:
        """The attempt's folder; it exists once `make` has returned."""
        if self.places.folder is None:
            raise PermanentError(_NO_STORE)
        return self.places.folder / safe_component(self.task_id)

    @property
    def are_possible(self) -> bool:
        """Whether there is anything to be done for them, at any time of the attempt."""
        return self.places.folder is not None

    @property
    def prefix(self) -> str:
        """What the keys of its outputs begin with: no other attempt writes there."""
        return f"jobs/{safe_component(self.job_id)}/{safe_component(self.task_id)}/"

    def store(self) -> Blobs:
        """Where files go.

        Raises:
            PermanentError: nowhere.
        """
        if self.places.blobs is None:
            raise PermanentError(_NO_STORE)
        return self.places.blobs

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Whatever is made in the block is removed after it."""
        try:
            yield
        finally:
            if self._is_made and not self.is_left:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(remove_tree, self.root)
                self.places.quota.give_back(self._taken)

    async def make(self) -> None:
        """Make the folder, if it is not there."""
        if not self._is_made:
            root, self._is_made = self.root, True
            await trio.to_thread.run_sync(partial(root.mkdir, 0o700))

    async def fetch(self, params: dict[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
        """*params* with the paths of files in the place of their URIs.

        Args:
            params: Of the task; not changed.
            known: What is known of some of them, `params_metadata` of the task.

        Raises:
            BlobError: one cannot be had.
        """
        if self.places.blobs is None or not (uris := uris_in(params)):
            return params
        await self.make()
        inputs = Inputs(self.places.blobs, self.places.cache, self.places.buckets, self.root)
        await inputs.look(uris, known)
        await self._take(uris[0], inputs.size)
        paths = await inputs.fetch(Meter("downloading", inputs.size, self.tell).advance)
        found: dict[str, Any] = with_texts(params, lambda it: _instead(paths, it))
        return found

    async def fetch_one(self, uri: str, target: Path) -> None:
        """Download *uri*, a file or a folder, to *target*, which must not exist.

        Raises:
            BlobError: it cannot be had.
        """
        inputs = Inputs(self.store(), self.places.cache, self.places.buckets, target.parent)
        with self._transfer():
            await inputs.look([uri], {})
            await self._take(uri, inputs.size)
            await inputs.fetch(Meter("downloading", inputs.size, self.tell).advance, target)

    async def _take(self, uri: str, size: int) -> None:
        """Room on the disk, for one transfer after the other: the first may wait for it."""
        async with self._asking:
            await self.places.quota.take(uri, size, held=self._taken)
            self._taken += size

    def _outputs(self) -> Outputs:
        places = self.places
        return Outputs(self.store(), self.root, self.prefix, places.payload_dirs, self._uploaded)

    def end_transfers(self) -> None:
        """The attempt is over: end what a handler transfers, and let it begin no more.

        A handler in a thread is not cancelled with its attempt, so this has to be said.
        """
        self._is_over = True
        for scope in self._transfers:
            scope.cancel()

    @contextmanager
    def _transfer(self) -> Iterator[None]:
        """What a handler has asked for, from any thread; ended by `end_transfers`."""
        with trio.CancelScope() as scope:
            self._transfers.add(scope)
            try:
                if self._is_over:
                    scope.cancel()
                yield
            finally:
                self._transfers.discard(scope)
        if scope.cancelled_caught:
            raise TransientError("the attempt is over; nothing is transferred for it any more")

    def as_texts(self, value: Any) -> Any:
        """*value*, of a handler, with its paths below the folder for payloads as texts."""
        try:
            has_paths = self.places.payload_dirs and _has_path(value)
            return with_texts(value, self._as_text) if has_paths else value
        except ValueError:  # it is no JSON, which will be told
            return value

    def _as_text(self, it: Any) -> Any:
        if not isinstance(it, PurePath):
            return it
        return str(it) if any(it.is_relative_to(one) for one in self.places.payload_dirs) else it

    async def deliver(self, outcome: Outcome) -> Outcome:
        """*outcome* with the URIs of files in the place of their paths.

        Raises:
            BlobError: one cannot be uploaded.
            UnsafePath: one leads out of the attempt's folder.
        """
        if self.places.folder is None or not (named := candidates(outcome.data)):
            return outcome
        if self.places.blobs is None:
            roots = [folder / self.root.parent.name for folder in self.places.payload_dirs]
            ours = [it for _, it in named if any(PurePath(it).is_relative_to(r) for r in roots)]
            reason = f"the result names {ours[0]!r}, but {_NO_STORE}" if ours else ""
            return failed(PERMANENT, reason) if ours else outcome
        outputs = self._outputs()
        size = await outputs.find(named)
        if size is None:
            return outcome
        meter = Meter("uploading", size, self.tell)
        found = await outputs.put(meter.advance)
        uris = {text: str(entry["uri"]) for text, entry in found.items()}
        data = with_texts(outcome.data, lambda it: _instead(uris, it))
        told = {path or "result": found[text] for path, text in named if text in found}
        before = outcome.passed_on.get("data_metadata")
        if isinstance(before, dict):
            told = before | told
        return attrs.evolve(
            outcome, data=data, passed_on={**outcome.passed_on, "data_metadata": told}
        )

    async def upload(self, path: Path) -> str:
        """Upload the file or folder at *path*; returns its URI.

        Raises:
            BlobError: it cannot be uploaded.
            UnsafePath: it is not in the attempt's folder.
        """
        outputs = self._outputs()
        with self._transfer():
            size = await outputs.find([("", str(path))])
            if size is None:
                raise FileNotFoundError(f"there is no file {str(path)!r}")
            meter = Meter("uploading", size, self.tell)
            found = await outputs.put(meter.advance)
            return str(found[str(path)]["uri"])
        raise AssertionError  # the block returns, or what ends it raises


def _instead(table: Mapping[str, str], it: Any) -> Any:
    return table.get(it, it) if isinstance(it, str) else it


def _has_path(value: Any) -> bool:
    return any(isinstance(it, PurePath) for it in leaves_in(value))


@attrs.define(eq=False)
class Meter:
    """How far a transfer is: bytes done of a total."""

    what: str
    total: int
    tell: Tell
    done: int = 0

    def advance(self, count: int) -> None:
        """So many more bytes are done."""
        self.done += count
        if self.total:
            text = f"{self.what}: {_readable(self.done)} of {_readable(self.total)}"
            self.tell(min(1.0, self.done / self.total), text)


def _readable(count: int) -> str:
    """
    >>> _readable(1536)
    '1.5 KiB'
    """
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
