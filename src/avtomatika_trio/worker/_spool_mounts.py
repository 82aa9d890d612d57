"""On which file systems a spool may lie."""

import re
from pathlib import Path

from avtomatika_trio.errors import SpoolError

# Names as the kernel and FUSE programs write them into mountinfo.  9p is not here: it is what
# some sandboxes call the disk of their own host, and it passes locks and fsyncs on.
_NETWORK_FILE_SYSTEMS = frozenset(
    {
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "davfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb2",
        "smb3",
        "smbfs",
        "fuse.ceph",
        "fuse.ceph-fuse",
        "fuse.davfs",
        "fuse.davfs2",
        "fuse.gcsfuse",
        "fuse.glusterfs",
        "fuse.juicefs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.smbnetfs",
        "fuse.sshfs",
    }
)


def file_system_of(folder: Path) -> str | None:
    """The type of the file system under *folder*, as in "ext4"; None where Linux is not."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    except OSError:
        return None
    return find_file_system(folder.resolve(), mounts)


def find_file_system(path: Path, mounts: str) -> str | None:
    """Find the file system of *path* in *mounts*, a text like /proc/self/mountinfo.

    The deepest mount point above *path* holds it; of several on one point, the last.
    The columns are described in proc(5).
    """
    deepest, found = -1, None
    for line in mounts.split("\n"):
        left, _, right = line.partition(" - ")
        columns = left.split(" ")
        if len(columns) < 5 or not right:
            continue
        point = Path(_unescape(columns[4]))
        if path.is_relative_to(point) and len(point.parts) >= deepest:
            deepest, found = len(point.parts), right.split(" ")[0]
    return found


def refuse_network_file_system(folder: Path, file_system: str | None) -> None:
    """Refuse file systems whose locks and fsyncs are promises of another machine.

    Raises:
        SpoolError: *file_system* is one of them.
    """
    if file_system in _NETWORK_FILE_SYSTEMS:
        raise SpoolError(
            str(folder),
            f"it lies on a network file system ({file_system}), where a lock does not keep a"
            " second process out; set WORKER_SPOOL_DIR to a folder on a local disk",
        )


def _unescape(column: str) -> str:
    r"""Undo the octal escapes of /proc/self/mountinfo, as in `\040` for a space."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), column)
