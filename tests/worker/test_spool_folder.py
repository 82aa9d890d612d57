"""Who may open a spool, and where: the lock, the file system, the worker id."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.worker.spool_cases import opened, result

from avtomatika_trio.errors import SpoolError
from avtomatika_trio.worker._spool_folder import default_worker_id
from avtomatika_trio.worker._spool_log import SpoolLog
from avtomatika_trio.worker._spool_mounts import find_file_system


async def test_a_second_process_is_told_who_has_the_spool_and_what_to_do(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from avtomatika_trio.worker._spool_log import SpoolLog\n"
        f"SpoolLog(Path({str(tmp_path)!r}), instance='other')\n"
    )
    async with opened(tmp_path):
        done = subprocess.run(  # noqa: ASYNC221 - nothing else waits in this test
            [sys.executable, "-c", program], capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert f"process {os.getpid()} has it open" in done.stderr
    assert "WORKER_SPOOL_DIR" in done.stderr


async def test_the_same_process_is_told_that_it_has_the_spool_already(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(SpoolError, match=f"this process \\({os.getpid()}\\) has it open"):
            async with opened(tmp_path, "i2"):
                pass


HOLDER = """
import os, sys, subprocess, time
from pathlib import Path
from avtomatika_trio.worker._spool_log import SpoolLog
log = SpoolLog(Path(sys.argv[1]), instance="holder")
forked, told = os.pipe()
if os.fork() == 0:
    os.write(told, b"!")  # what a fork has to do first is done
    time.sleep(60)
    os._exit(0)
os.read(forked, 1)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False)
print("ready", flush=True)
time.sleep(60)
"""


def test_children_do_not_inherit_the_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as holder:
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == b"ready\n"
            os.kill(holder.pid, signal.SIGKILL)
            holder.wait()
            log = SpoolLog(tmp_path, instance="successor")  # both children are still alive
            assert log.recovered.instances == ("holder",)
            log.close()
        finally:
            os.killpg(holder.pid, signal.SIGKILL)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
async def test_a_network_file_system_is_refused(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    with pytest.raises(SpoolError, match=rf"network file system \({kind}\).*WORKER_SPOOL_DIR"):
        async with opened(folder, file_system=lambda _: kind):
            pass
    assert not folder.exists()


@pytest.mark.parametrize("kind", ["ext4", "overlay", "fuseblk", None])
async def test_a_local_or_unknown_file_system_is_taken(kind: str | None, tmp_path: Path) -> None:
    async with opened(tmp_path, file_system=lambda _: kind) as spool:
        await spool.append(result(1))


MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw
31 22 0:27 / /mnt/my\040share rw - nfs4 server:/export rw
32 31 0:28 / /mnt/my\040share/local rw - xfs /dev/sdb rw
33 22 0:29 / /srv rw - ext4 /dev/sdc rw
34 33 0:30 / /srv rw shared:7 master:2 - cifs //server/srv rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me", "ext4"),
        ("/mnt/my share/spool", "nfs4"),
        ("/mnt/my share/local/spool", "xfs"),
        ("/mnt/my shared", "ext4"),
        ("/srv/spool", "cifs"),
    ],
)
def test_the_deepest_and_latest_mount_tells_the_file_system(path: str, kind: str) -> None:
    assert find_file_system(Path(path), MOUNTS) == kind


def test_no_mount_is_no_file_system() -> None:
    assert find_file_system(Path("/x"), "") is None


def test_the_files_are_for_their_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "spool"
    SpoolLog(folder, instance="i1").close()
    assert folder.stat().st_mode & 0o077 == 0
    for file in folder.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file.name


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("not a folder")
    with pytest.raises(SpoolError, match="spool"):
        SpoolLog(tmp_path / "spool", instance="i1")


def test_a_worker_id_is_made_once_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    made = default_worker_id(folder)
    assert made.startswith("worker-")
    assert default_worker_id(folder) == made
    assert default_worker_id(tmp_path / "other") != made
    assert [file.name for file in folder.iterdir()] == ["worker-id"]


def test_of_two_processes_that_make_a_worker_id_one_wins_for_both(tmp_path: Path) -> None:
    def draw_late() -> str:
        default_worker_id(tmp_path, draw=lambda: "worker-quick")
        return "worker-slow"

    assert default_worker_id(tmp_path, draw=draw_late) == "worker-quick"


@pytest.mark.parametrize("content", ["", "two words", "line\nline"])
def test_a_file_without_a_worker_id_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "worker-id").write_text(content)
    with pytest.raises(SpoolError, match="worker-id holds no worker id; delete the file"):
        default_worker_id(tmp_path)
