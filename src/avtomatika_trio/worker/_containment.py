"""Nothing outside of an attempt's folder is read for it, written for it or uploaded.

A name may lead out by `..`, by being absolute, by a symbolic link, or by a hard link to a file
that lies elsewhere; a special file may never end.  Everything here blocks.
"""

import os
import re
import stat
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from avtomatika_trio.blobs._line import check_line
from avtomatika_trio.errors import PermanentError, UnsafePath

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_DESCRIPTORS = Path("/proc/self/fd")


def inside(root: Path, name: str | os.PathLike[str]) -> Path:
    """The path of *name* in *root*, all symbolic links followed; it need not exist.

    Args:
        root: A folder that exists.
        name: Relative to it, or absolute and in it.

    Raises:
        UnsafePath: it leads out.
    """
    text = os.fspath(name)
    if "\0" in text:
        raise UnsafePath(f"{text!r} is not the name of a file")
    real_root = Path(os.path.realpath(root))
    real = Path(os.path.realpath(real_root / text))
    if not real.is_relative_to(real_root):
        raise UnsafePath(
            f"{text!r} leads out of the folder of this attempt ({root}); nothing outside of it is"
            " read, written or uploaded"
        )
    return real


class LinkCount:
    """How many names files have in *root*, as it was when the first was asked for.

    Asked by several threads at a time.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._counts: Counter[tuple[int, int]] | None = None

    def of(self, status: os.stat_result) -> int:
        """The names of the file that has this *status*."""
        with self._lock:
            if self._counts is None:
                self._counts = self._count()
            return self._counts[status.st_dev, status.st_ino]

    def _count(self) -> Counter[tuple[int, int]]:
        counts: Counter[tuple[int, int]] = Counter()
        for where, _, names in os.walk(self._root):
            for name in names:
                check_line()
                with suppress(FileNotFoundError):  # it is gone again
                    found = os.lstat(Path(where, name))
                    counts[found.st_dev, found.st_ino] += 1
        return counts


def open_inside(root: Path, path: Path, links: LinkCount) -> int:
    """Open *path*, as `inside` returned it, to read it; whatever has been done to it since.

    Args:
        root: The folder.
        path: What is opened.
        links: Of that folder.

    Returns:
        A descriptor, which the caller closes.

    Raises:
        UnsafePath: it is not a regular file, is not in *root*, or is one with a file elsewhere.
        OSError: it cannot be opened.
    """
    if not stat.S_ISREG(path.lstat().st_mode):  # a socket could not even be opened
        raise UnsafePath(f"{str(path)!r} is not a regular file")
    descriptor = os.open(path, _OPEN)
    try:
        _check_opened(root, path, descriptor, links)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_opened(root: Path, path: Path, descriptor: int, links: LinkCount) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise UnsafePath(f"{str(path)!r} is not a regular file")
    try:  # a folder on the way may have been replaced by a link
        real = (_DESCRIPTORS / str(descriptor)).readlink()
    except OSError:  # no /proc here
        real = Path(os.path.realpath(path))
    if not real.is_relative_to(os.path.realpath(root)):
        raise UnsafePath(f"{str(path)!r} leads out of the folder of this attempt")
    if status.st_nlink > 1 and links.of(status) < status.st_nlink:
        raise UnsafePath(
            f"{str(path)!r} is a hard link to a file outside of the folder of this attempt; copy it"
        )


def files_in(root: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Every file below *folder* with its path relative to it; empty folders end in `/`.

    If *folder* itself is empty, that is "".  Symbolic links to files of the attempt are those
    files.

    Raises:
        UnsafePath: something in it leads out, or is a link to a folder.
        PermanentError: a link in it leads nowhere.
    """
    for where, folders, names in os.walk(folder):
        check_line()
        here = Path(where)
        for name in sorted(folders):
            if (here / name).is_symlink():
                inside(root, here / name)
                raise UnsafePath(f"{str(here / name)!r} is a link to a folder; copy it")
        for name in sorted(names):
            check_line()
            real = inside(root, here / name)
            if not os.path.lexists(real):
                raise PermanentError(f"{str(here / name)!r} is a link that leads nowhere")
            yield (here / name).relative_to(folder).as_posix(), real
        if not folders and not names:
            yield "" if here == folder else f"{here.relative_to(folder).as_posix()}/", here
        folders.sort()


def safe_component(text: str) -> str:
    """*text*, or what stands for it, such as can be the name of one folder.

    >>> safe_component("p00-task-7")
    'p00-task-7'
    >>> safe_component("../7")
    'x2e2e2f37'
    """
    if re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}", text):
        return text
    return f"x{text.encode(errors='surrogatepass').hex()[:200]}"
