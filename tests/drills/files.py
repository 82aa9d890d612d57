"""A file of 5 GiB goes to a real S3 server and comes back: the same, and past little memory.

    python -m tests.drills.files [--gigabytes 5 | --megabytes N]

The file is of random bytes.  All of it is below the folder for temporary files (TMPDIR), which
needs room for two copies, and nothing of it stays.

The exit code is 1 if a transfer fails, if what comes back differs, or if this process needed
64 MiB or more over what it had before the first transfer; it is 2 if there is no room or no server.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import attrs
import trio
from tests.blobs.measuring import MIB, Memory, sha256_of, write_random
from tests.blobs.s3_server import BUCKET, Missing, run_s3_server

from avtomatika_trio._config import S3Access
from avtomatika_trio.blobs import Blobs, Location, Patience, open_s3
from avtomatika_trio.errors import BlobError

#: More is a problem, however large the file is.
MOST_GROWTH = 64 * MIB

#: The default of S3_MAX_CONCURRENCY.
MOST_REQUESTS = 10

PROGRESS_SECONDS = 2.0

#: The server writes no more when a hundredth of the disk or less is free; and its own files.
_SPARE_SHARE, _SPARE_BYTES = 0.015, 512 * MIB

_AT = Location(BUCKET, "drill/film.bin")


class NoRoom(Exception):
    """The disk is too full for the drill."""


@attrs.define
class Progress:
    """Prints, now and then, how far a transfer is."""

    what: str
    total: int
    done: int = 0
    _begun_at: float = attrs.field(factory=time.perf_counter, init=False)
    _told_at: float = attrs.field(factory=time.perf_counter, init=False)

    def advance(self, count: int) -> None:
        """So many more bytes are done."""
        self.done += count
        now = time.perf_counter()
        if now >= self._told_at + PROGRESS_SECONDS:
            self._told_at = now
            self.tell()

    def tell(self) -> None:
        """Print a line."""
        rate = self.done / 1e6 / (time.perf_counter() - self._begun_at)
        print(f"{self.what:12} {self.done} of {self.total} bytes, {rate:.0f} MB/s", flush=True)


@attrs.frozen
class Outcome:
    """What the transfers have come to."""

    sent: str
    """A sha256, as all of them."""
    received: str
    told: dict[str, str]
    """Who says which sha256, of those that should know."""
    growth: int

    @property
    def problems(self) -> list[str]:
        """What is wrong."""
        found = [
            f"{who} has the sha256 {sha256}, not {self.sent}"
            for who, sha256 in {"what came back": self.received, **self.told}.items()
            if sha256 != self.sent
        ]
        if self.growth >= MOST_GROWTH:
            found.append(
                f"the transfers took {self.growth / MIB:.1f} MiB of memory; "
                f"less than {MOST_GROWTH // MIB} MiB is promised"
            )
        return found


def check_room(folder: Path, size: int) -> None:
    """Raise NoRoom if two copies of the file do not fit."""
    disk = shutil.disk_usage(folder)
    needed = 2 * size + _SPARE_BYTES + int(_SPARE_SHARE * disk.total)
    if disk.free < needed:
        raise NoRoom(
            f"{folder} has {disk.free / MIB:.0f} MiB free and {needed / MIB:.0f} MiB are needed: "
            f"twice the file and what the server keeps free; set TMPDIR, or ask for less"
        )


async def transfer(access: S3Access, source: Path, sent: str) -> Outcome:
    """Send *source*, whose sha256 is *sent*, and bring it back; it is gone then."""
    size = (await trio.Path(source).stat()).st_size
    target = source.with_name("returned.bin")
    async with open_s3(access, max_concurrency=MOST_REQUESTS, patience=Patience()) as blobs:
        await blobs.list(_AT)  # it is connected, and all is imported
        memory = Memory()
        stored = await _upload(blobs, source, Progress("upload", size))
        await trio.Path(source).unlink()  # makes room for what comes
        progress = Progress("download", size)
        loaded = await blobs.download(await blobs.head(_AT), target, progress.advance)
        progress.tell()
        growth = memory.growth
    received = await trio.to_thread.run_sync(sha256_of, target)
    return Outcome(sent, received, {"the upload": stored, "the download": loaded}, growth)


async def _upload(blobs: Blobs, source: Path, progress: Progress) -> str:
    descriptor = os.open(source, os.O_RDONLY)
    try:
        blob = await blobs.upload(descriptor, _AT, progress.advance)
    finally:
        os.close(descriptor)
    progress.tell()
    return str(blob.sha256)


def summary(outcome: Outcome) -> str:
    """What has come of it."""
    lines = [
        f"{'sent':12} sha256 {outcome.sent}",
        f"{'received':12} sha256 {outcome.received}",
        f"{'memory':12} {outcome.growth / MIB:.1f} MiB more at the peak than before",
        f"{'problems':12} {len(outcome.problems)}",
        *(f"{'':12} {problem}" for problem in outcome.problems),
    ]
    return "\n".join(lines)


def run(size: int) -> bool:
    """Run the drill; returns whether all is well.

    Raises:
        NoRoom: the disk is too full.
        Missing: there is no S3 server.
    """
    with tempfile.TemporaryDirectory(prefix="drill-files-") as name:
        source = Path(name) / "film.bin"
        check_room(source.parent, size)
        with run_s3_server() as server:
            print(f"a file of {size} bytes, in {name}; S3 at {server.url}", flush=True)
            sent = write_random(source, size)
            outcome = trio.run(transfer, server.access(), source, sent)
    print(f"\n{summary(outcome)}", flush=True)
    return not outcome.problems


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the drill; returns the exit code."""
    parser = argparse.ArgumentParser(prog="drill-files", description=__doc__.splitlines()[0])
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--gigabytes", type=float, default=5.0, help="GiB of the file (5)")
    sizes.add_argument("--megabytes", type=int, help="MiB of the file, for a short drill")
    given = parser.parse_args(arguments)
    size = int(given.gigabytes * 1024) * MIB if given.megabytes is None else given.megabytes * MIB
    try:
        return 0 if run(size) else 1
    except (NoRoom, Missing) as exc:
        print(exc, file=sys.stderr)
        return 2
    except BlobError as exc:
        print(f"the transfer failed: {exc}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, BaseExceptionGroup) as exc:
        if not is_interrupt(exc):
            raise
        print("interrupted; nothing was left", file=sys.stderr)
        return 130


def is_interrupt(exc: BaseException) -> bool:
    """Whether it is Ctrl-C alone, also from within nurseries."""
    if isinstance(exc, BaseExceptionGroup):
        return exc.split(KeyboardInterrupt)[1] is None
    return isinstance(exc, KeyboardInterrupt)


if __name__ == "__main__":
    sys.exit(main())
