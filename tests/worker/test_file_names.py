"""What files are called locally: any key has a name there, or is refused with its URI."""

import os
from pathlib import Path

import pytest

from avtomatika_trio._core.known_files import uris_in
from avtomatika_trio.blobs import Blob, Location
from avtomatika_trio.errors import BlobRefused
from avtomatika_trio.worker._file_names import LocalNames, relative_names


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("a/b.txt", "b.txt"),
        ("a/set/", "set"),
        ("", "file"),
        ("a/.", "file"),
        ("a/..", "file"),
        ("a\0b", "a_b"),
        ("x" * 300 + ".tar", "x" * 251 + ".tar"),
        ("é" * 200, "é" * 127),
    ],
)
def test_every_key_has_a_local_name(tmp_path: Path, key: str, name: str) -> None:
    names = LocalNames()
    found = [names.name_for(Location("b", key)) for _ in range(12)]
    assert found[0] == name
    for it in found:
        (tmp_path / it).write_text("x")
    assert len(list(tmp_path.iterdir())) == 12


def test_a_uri_is_found_once() -> None:
    params = {"a": "s3://b/2", "l": ["s3://b/1", "text", {"c": "s3://b/2"}]}
    assert uris_in(params) == ["s3://b/2", "s3://b/1"]


SET = Location("b", "set/")


def blobs(*names: str) -> list[Blob]:
    return [Blob(location=SET.at(f"set/{name}"), size=1, etag="e") for name in names]


def test_blobs_of_a_folder_have_their_names_below_it() -> None:
    names = ["", "a", "b/", "c/d", "c/e/", "c.d", os.fsdecode(b"x" * 255)]
    assert list(relative_names(SET, blobs(*names))) == names[1:]


@pytest.mark.parametrize(
    "name",
    ["../a", "a/..", "a/../../b", "./a", "a//b", "/a", "a//", "/", "a\0b", "x" * 256, "é" * 128],
)
def test_a_key_that_is_no_path_is_refused(name: str) -> None:
    with pytest.raises(BlobRefused) as caught:
        relative_names(SET, blobs("fine", name))
    assert caught.value.uri == f"s3://b/set/{name}"


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b/c", "a"), ("a", "a/"), ("c/a/", "c/a")])
def test_a_file_that_would_be_a_folder_as_well_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(BlobRefused, match="a file and the folder of"):
        relative_names(SET, blobs(*names))
