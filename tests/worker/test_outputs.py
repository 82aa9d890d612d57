"""What a handler returns: files of its own folder are uploaded, nothing else ever is."""

import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.worker.file_cases import BUCKET, Desk, open_desk

from avtomatika_trio.blobs import Location
from avtomatika_trio.errors import BlobError, PermanentError, UnsafePath
from avtomatika_trio.worker import TaskFiles
from avtomatika_trio.worker._attempt_files import AttemptFiles
from avtomatika_trio.worker._outcome import Outcome
from avtomatika_trio.worker._outputs import Outputs

EVERYTHING = Location(BUCKET, "")


@pytest.fixture
async def files(desk: Desk) -> AsyncIterator[AttemptFiles]:
    attempt = desk.attempt()
    async with attempt.open():
        await attempt.make()
        yield attempt


def at(name: str) -> str:
    return f"s3://{BUCKET}/jobs/j1/t1/{name}"


async def test_paths_become_uris(desk: Desk, files: AttemptFiles) -> None:
    (files.root / "sub").mkdir()
    for name in ("a.txt", "sub/b.txt"):
        (files.root / name).write_text(name)
    data = {"file": str(files.root / "a.txt"), "nested": {"l": [str(files.root / "sub/b.txt"), 7]}}
    outcome = await files.deliver(Outcome(data=data))
    assert outcome.data == {"file": at("a.txt"), "nested": {"l": [at("sub/b.txt"), 7]}}
    told = outcome.passed_on["data_metadata"]
    assert set(told) == {"file", "nested.l[0]"}
    assert told["file"]["uri"] == at("a.txt")
    assert told["file"]["size"] == 5
    assert len(told["file"]["sha256"]) == 64
    assert told["file"]["etag"]
    assert await desk.content(at("sub/b.txt")) == b"sub/b.txt"


async def test_paths_may_be_path_objects_and_stand_alone(desk: Desk, files: AttemptFiles) -> None:
    path = files.root / "a.txt"
    path.write_text("a")
    beside = desk.places.payload_dirs[0] / "x"
    value = files.as_texts({"a": path, "t": (path, beside), "other": Path("/etc/hostname")})
    assert value == {"a": str(path), "t": [str(path), str(beside)], "other": Path("/etc/hostname")}
    outcome = await files.deliver(Outcome(data=files.as_texts(path)))
    assert outcome.data == at("a.txt")
    assert set(outcome.passed_on["data_metadata"]) == {"result"}


async def test_what_is_nested_in_itself_is_left_to_those_who_want_json(
    files: AttemptFiles,
) -> None:
    endless: list[Any] = [files.root / "a"]
    endless += [endless, endless]
    assert files.as_texts(endless) is endless
    endless.pop(0)
    assert files.as_texts({"x": endless})["x"] is endless


async def test_a_folder_becomes_a_prefix(desk: Desk, files: AttemptFiles) -> None:
    (files.root / "set" / "sub").mkdir(parents=True)
    (files.root / "set" / "empty").mkdir()
    (files.root / "set" / "a").write_text("a")
    (files.root / "set" / "sub" / "b").write_text("b")
    outcome = await files.deliver(Outcome(data=str(files.root / "set")))
    assert outcome.data == at("set/")
    assert outcome.passed_on["data_metadata"]["result"]["files"] == 2
    keys = [it.location.key for it in await desk.blobs.list(EVERYTHING)]
    assert keys == [f"jobs/j1/t1/set/{name}" for name in ("a", "empty/", "sub/b")]
    other = desk.attempt("t2")
    async with other.open():
        told = outcome.passed_on["data_metadata"]
        got = await other.fetch({"set": outcome.data}, told)
        assert (Path(got["set"]) / "empty").is_dir()
        assert (Path(got["set"]) / "sub" / "b").read_text() == "b"


async def test_the_whole_folder_of_the_attempt_becomes_a_prefix(
    desk: Desk, files: AttemptFiles
) -> None:
    (files.root / "a").write_text("a")
    outcome = await files.deliver(Outcome(data=str(files.root)))
    assert outcome.data == at("")
    assert await desk.content(at("a")) == b"a"


async def test_another_attempt_overwrites_nothing(desk: Desk) -> None:
    uris = []
    for number in (1, 2):
        attempt = desk.attempt(f"t{number}")
        async with attempt.open():
            await attempt.make()
            (attempt.root / "out.json").write_text(str(number))
            outcome = await attempt.deliver(Outcome(data=str(attempt.root / "out.json")))
            uris.append(outcome.data)
    assert [await desk.content(uri) for uri in uris] == [b"1", b"2"]


@pytest.mark.parametrize(
    "text",
    [
        "plain text",
        "/etc/hostname",
        "/etc/../etc/hostname",
        "/",
        "relative/out.txt",
        "./out.txt",
        "~/out.txt",
        "s3://bucket/key",
        "file:///etc/hostname",
        "/tmp\0/x",
        "/" + "x" * 5000,
        "https://example.org/etc/hostname",
    ],
)
async def test_anything_else_is_left_alone(desk: Desk, files: AttemptFiles, text: str) -> None:
    outcome = await files.deliver(Outcome(data={"it": text}))
    assert outcome.data == {"it": text}
    assert "data_metadata" not in outcome.passed_on
    assert list(await desk.blobs.list(EVERYTHING)) == []


async def test_a_path_that_is_not_there_is_left_alone(files: AttemptFiles) -> None:
    text = str(files.root / "never-written")
    assert (await files.deliver(Outcome(data=text))).data == text


async def test_a_text_that_begins_as_a_path_is_left_alone(desk: Desk, files: AttemptFiles) -> None:
    """Such as what a program says of its input."""
    said = ": invalid data found" * 50
    texts = [f"{files.root}/in.mp4{said}", f"{desk.places.payload_dirs[0]}/in.mp4{said}"]
    assert (await files.deliver(Outcome(data=texts))).data == texts


async def test_a_folder_beside_the_payloads_is_left_alone(
    desk: Desk, files: AttemptFiles, tmp_path: Path
) -> None:
    evil = tmp_path / "payloads-evil"
    evil.mkdir()
    (evil / "x").write_text("secret")
    text = str(evil / "x")
    assert (await files.deliver(Outcome(data=text))).data == text
    assert list(await desk.blobs.list(EVERYTHING)) == []


Trap = Callable[[Path, Path], Path]
"""Given the attempt's folder and a file outside, lays a trap and tells what is returned."""


def dots(root: Path, outside: Path) -> Path:
    return Path(f"{root}/../../../{outside.name}")


def dots_of_payload_dir(root: Path, outside: Path) -> Path:
    return Path(f"{root.parents[1]}/../{outside.name}")


def link(root: Path, outside: Path) -> Path:
    (root / "link").symlink_to(outside)
    return root / "link"


def relative_link(root: Path, outside: Path) -> Path:
    (root / "link").symlink_to(os.path.relpath(outside, root))
    return root / "link"


def link_to_folder(root: Path, outside: Path) -> Path:
    (root / "folder").symlink_to(outside.parent)
    return root / "folder" / outside.name


def link_in_folder(root: Path, outside: Path) -> Path:
    (root / "set").mkdir()
    (root / "set" / "inner").symlink_to(outside)
    return root / "set"


def link_to_folder_in_folder(root: Path, outside: Path) -> Path:
    (root / "set").mkdir()
    (root / "set" / "inner").symlink_to(outside.parent)
    return root / "set"


def loop_in_folder(root: Path, outside: Path) -> Path:
    (root / "set").mkdir()
    (root / "set" / "inner").symlink_to(root)
    return root / "set"


def hard_link(root: Path, outside: Path) -> Path:
    os.link(outside, root / "hard")
    return root / "hard"


def hard_link_in_folder(root: Path, outside: Path) -> Path:
    (root / "set").mkdir()
    os.link(outside, root / "set" / "hard")
    return root / "set"


def file_of_another_attempt(root: Path, outside: Path) -> Path:
    other = root.parent / "t9"
    other.mkdir()
    (other / "x").write_text("secret")
    return other / "x"


def lock_of_the_worker(root: Path, outside: Path) -> Path:
    return root.parent / "lock"


def unicode_dots(root: Path, outside: Path) -> Path:
    folder = root / "é\u2025"
    folder.mkdir()
    (folder / "link").symlink_to(outside)
    return folder / "link"


def pipe(root: Path, outside: Path) -> Path:
    os.mkfifo(root / "pipe")
    return root / "pipe"


def pipe_in_folder(root: Path, outside: Path) -> Path:
    (root / "set").mkdir()
    os.mkfifo(root / "set" / "pipe")
    return root / "set"


def device(root: Path, outside: Path) -> Path:
    (root / "zero").symlink_to("/dev/zero")
    return root / "zero"


def a_socket(root: Path, outside: Path) -> Path:
    here = Path.cwd()
    os.chdir(root)  # its path may be too long for a socket
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("socket")
    finally:
        os.chdir(here)
    return root / "socket"


TRAPS: list[Trap] = [
    dots,
    dots_of_payload_dir,
    link,
    relative_link,
    link_to_folder,
    link_in_folder,
    link_to_folder_in_folder,
    loop_in_folder,
    hard_link,
    hard_link_in_folder,
    file_of_another_attempt,
    lock_of_the_worker,
    unicode_dots,
    pipe,
    pipe_in_folder,
    device,
    a_socket,
]


@pytest.mark.parametrize("trap", TRAPS, ids=lambda it: it.__name__)
async def test_an_escape_is_refused_and_nothing_is_uploaded(
    desk: Desk, files: AttemptFiles, tmp_path: Path, trap: Trap
) -> None:
    outside = tmp_path / "secret.txt"
    outside.write_text("secret")
    returned = str(trap(files.root, outside))
    (files.root / "good.txt").write_text("good")
    data: Any = {"good": str(files.root / "good.txt"), "bad": returned}
    with pytest.raises(UnsafePath) as caught:
        await files.deliver(Outcome(data=data))
    assert caught.value.code == "SECURITY_ERROR"
    assert list(await desk.blobs.list(EVERYTHING)) == []


@pytest.mark.parametrize("name", [os.fsdecode(b"\xff"), "a\x01b", "a\nb", "a\\b", "a\u2028b"])
async def test_a_name_that_s3_cannot_tell_is_refused(
    desk: Desk, files: AttemptFiles, name: str
) -> None:
    (files.root / "set").mkdir()
    (files.root / "set" / name).write_text("x")
    (files.root / "good.txt").write_text("good")
    data = [str(files.root / "good.txt"), str(files.root / "set")]
    with pytest.raises(PermanentError, match="rename it"):
        await files.deliver(Outcome(data=data))
    assert list(await desk.blobs.list(EVERYTHING)) == []


async def test_a_link_that_leads_nowhere_is_told(desk: Desk, files: AttemptFiles) -> None:
    (files.root / "set").mkdir()
    (files.root / "set" / "link").symlink_to("nothing")
    with pytest.raises(PermanentError, match="leads nowhere"):
        await files.deliver(Outcome(data=str(files.root / "set")))


async def test_an_empty_folder_is_passed_on(desk: Desk, files: AttemptFiles) -> None:
    (files.root / "empty").mkdir()
    outcome = await files.deliver(Outcome(data=str(files.root / "empty")))
    assert outcome.data == at("empty/")
    other = desk.attempt("t2")
    async with other.open():
        told = outcome.passed_on["data_metadata"]
        got = await other.fetch({"x": outcome.data}, told)
        assert Path(got["x"]).is_dir()
        assert list(Path(got["x"]).iterdir()) == []


async def test_a_file_that_is_named_twice_is_uploaded_once(desk: Desk, files: AttemptFiles) -> None:
    (files.root / "set").mkdir()
    for number in range(5):
        (files.root / "set" / str(number)).write_text(str(number))
    one, whole = str(files.root / "set" / "0"), str(files.root / "set")
    outcome = await files.deliver(Outcome(data={"one": one, "all": whole, "again": one}))
    told = outcome.passed_on["data_metadata"]
    stored = await desk.blobs.head(Location(BUCKET, "jobs/j1/t1/set/0"))
    assert told["one"]["etag"] == told["again"]["etag"] == stored.etag
    assert sum(share == 1.0 for share, _ in desk.told) == 1


async def test_a_folder_has_what_was_uploaded_early_too(desk: Desk, files: AttemptFiles) -> None:
    (files.root / "set").mkdir()
    (files.root / "set" / "early").write_text("early")
    await files.upload(files.root / "set" / "early")
    (files.root / "set" / "early").rename(files.root / "set" / "late")
    outcome = await files.deliver(Outcome(data={"set": str(files.root / "set")}))
    told = outcome.passed_on["data_metadata"]
    other = desk.attempt("t2")
    async with other.open():
        got = await other.fetch({"set": outcome.data["set"]}, told)
        assert sorted(it.name for it in Path(got["set"]).iterdir()) == ["early", "late"]


async def test_a_name_that_is_too_long_with_its_task_is_refused(
    desk: Desk, files: AttemptFiles
) -> None:
    """Readers know it by both."""
    folder = files.root / ("x" * 250)
    folder.mkdir()
    (folder / ("y" * 250)).write_text("fits with a task id of two letters")
    assert (await files.deliver(Outcome(data=str(folder / ("y" * 250))))).data.endswith("y")
    attempt = desk.attempt("t" * 30)
    async with attempt.open():
        await attempt.make()
        folder = attempt.root / ("x" * 250)
        folder.mkdir()
        (folder / ("y" * 250)).write_text("does not")
        with pytest.raises(PermanentError, match="more than 512 bytes"):
            await attempt.deliver(Outcome(data=str(folder)))


async def test_many_links_within_the_folder_are_counted_once(
    files: AttemptFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    (files.root / "set").mkdir()
    for number in range(200):
        (files.root / "set" / f"a{number}").write_text("a")
        os.link(files.root / "set" / f"a{number}", files.root / "set" / f"b{number}")
    walks = 0

    def walk(*args: Any, **named: Any) -> Any:
        nonlocal walks
        walks += 1
        return original(*args, **named)

    original = os.walk
    monkeypatch.setattr(os, "walk", walk)
    outcome = await files.deliver(Outcome(data=str(files.root / "set")))
    assert outcome.passed_on["data_metadata"]["result"]["files"] == 400
    assert walks <= 4


async def test_a_text_that_is_too_long_for_a_name_is_left_alone(files: AttemptFiles) -> None:
    text = f"{files.root}/{'x' * 300}/y"
    assert (await files.deliver(Outcome(data=text))).data == text


async def test_paths_through_a_link_to_the_payloads_are_known(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    async with open_desk(tmp_path, payload_dir=tmp_path / "link" / "payloads") as desk:
        attempt = desk.attempt()
        async with attempt.open():
            await attempt.make()
            path = TaskFiles(attempt).write_sync("a.txt", "a")
            seen = tmp_path / "link" / "payloads" / attempt.root.parent.name / "t1" / "a.txt"
            assert seen.exists()
            value = attempt.as_texts([path, seen])
            assert (await attempt.deliver(Outcome(data=value))).data == [at("a.txt")] * 2
            other = attempt.root.parent / "t9"
            other.mkdir()
            (other / "x").write_text("secret")
            for text in (str(other / "x"), str(seen.parents[1] / "t9" / "x")):
                with pytest.raises(UnsafePath):
                    await attempt.deliver(Outcome(data=text))


async def test_an_escape_without_a_folder_of_its_own_is_refused_too(
    desk: Desk, tmp_path: Path
) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    attempt = desk.attempt()
    async with attempt.open():
        with pytest.raises(UnsafePath):
            await attempt.deliver(Outcome(data=f"{tmp_path}/payloads/../secret.txt"))


async def test_a_file_that_becomes_a_link_after_it_was_found_is_not_read(
    desk: Desk, files: AttemptFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "secret.txt"
    outside.write_text("secret")
    (files.root / "sub").mkdir()
    (files.root / "sub" / "secret.txt").write_text("mine")
    outputs = Outputs(desk.blobs, files.root, files.prefix, desk.places.payload_dirs)
    assert await outputs.find([("", str(files.root / "sub" / "secret.txt"))])
    (files.root / "sub").rename(files.root / "away")
    (files.root / "sub").symlink_to(tmp_path)
    with pytest.raises(UnsafePath):
        await outputs.put(lambda _: None)
    assert list(await desk.blobs.list(EVERYTHING)) == []


async def test_a_file_that_vanishes_after_it_was_found_is_named(
    desk: Desk, files: AttemptFiles
) -> None:
    path = files.root / "a"
    path.write_text("a")
    outputs = Outputs(desk.blobs, files.root, files.prefix, desk.places.payload_dirs)
    await outputs.find([("", str(path))])
    path.unlink()
    with pytest.raises(BlobError, match="cannot be read") as caught:
        await outputs.put(lambda _: None)
    assert caught.value.uri == at("a")


async def test_nothing_is_left_open(files: AttemptFiles) -> None:
    (files.root / "set" / "empty").mkdir(parents=True)
    (files.root / "set" / "a").write_text("a")
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    await files.deliver(Outcome(data=[str(files.root / "set"), str(files.root / "set" / "a")]))
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208


async def test_links_within_the_folder_are_what_they_lead_to(
    desk: Desk, files: AttemptFiles
) -> None:
    (files.root / "a").write_text("a")
    (files.root / "link").symlink_to(files.root / "a")
    os.link(files.root / "a", files.root / "hard")
    (files.root / "set").mkdir()
    (files.root / "set" / "inner").symlink_to("../a")
    data = [str(files.root / name) for name in ("link", "hard", "set")]
    outcome = await files.deliver(Outcome(data=data))
    assert outcome.data == [at("a"), at("hard"), at("set/")]
    assert await desk.content(at("set/inner")) == b"a"


async def test_unicode_names_are_kept(desk: Desk, files: AttemptFiles) -> None:
    name = "ñandú 文件 %2e%2e + &.txt"
    (files.root / name).write_text("x")
    outcome = await files.deliver(Outcome(data=str(files.root / name)))
    assert outcome.data == at(name)
    assert await desk.content(outcome.data) == b"x"


async def test_what_the_handler_tells_of_files_is_kept(files: AttemptFiles) -> None:
    (files.root / "a").write_text("a")
    mine = {"uri": "s3://x/y"}
    passed_on = {"data_metadata": {"mine": mine, "a": mine}, "costs": {"gpu": 1}}
    outcome = await files.deliver(Outcome(data={"a": str(files.root / "a")}, passed_on=passed_on))
    told = outcome.passed_on["data_metadata"]
    assert (set(told), told["mine"], told["a"]["uri"]) == ({"mine", "a"}, mine, at("a"))
    assert outcome.passed_on["costs"] == {"gpu": 1}


async def test_without_a_place_for_files_a_path_of_the_attempt_is_a_clear_failure(
    tmp_path: Path,
) -> None:
    async with open_desk(tmp_path, files_dir=None) as desk:
        attempt = desk.attempt()
        async with attempt.open():
            await attempt.make()
            (attempt.root / "a").write_text("a")
            outcome = await attempt.deliver(Outcome(data=str(attempt.root / "a")))
            assert outcome.status == "failure"
            assert outcome.error is not None
            assert outcome.error["code"] == "PERMANENT_ERROR"
            assert "FILES_DIR" in outcome.error["message"]
            assert (await attempt.deliver(Outcome(data="/etc/hostname"))).data == "/etc/hostname"


async def test_progress_tells_the_bytes(desk: Desk, files: AttemptFiles) -> None:
    (files.root / "a").write_bytes(bytes(2 * 1024**2))
    await files.deliver(Outcome(data=str(files.root / "a")))
    assert desk.told[-1] == (1.0, "uploading: 2.0 MiB of 2.0 MiB")
