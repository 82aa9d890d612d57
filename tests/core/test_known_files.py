"""What results tell of files goes on with them to the params of later tasks."""

from typing import Any

import pytest

from avtomatika_trio._core.known_files import files_known, kept_metadata, metadata_of

URI = "s3://b/k"


def test_only_what_a_file_has_is_kept() -> None:
    entry = {"uri": URI, "size": 7, "etag": "e", "sha256": "s", "files": 2}
    assert kept_metadata({"a": {**entry, "huge": "x" * 1000}}) == {"a": entry}


def test_what_is_below_metadata_counts_where_nothing_is_beside_it() -> None:
    said = {"a": {"uri": URI, "size": 7, "metadata": {"size": 8, "sha256": "s", "more": 1}}}
    assert kept_metadata(said) == {"a": {"uri": URI, "size": 7, "sha256": "s"}}


@pytest.mark.parametrize(
    "said", [None, [], "text", {"a": None}, {"a": {"size": 7}}, {"a": {"uri": 7}}]
)
def test_what_names_no_file_is_not_kept(said: Any) -> None:
    assert kept_metadata(said) == {}


def told(uri: str) -> dict[str, Any]:
    return {"data_metadata": {"it": {"uri": uri, "size": 7}}}


def test_everything_that_a_job_has_learnt_is_looked_through() -> None:
    history = {
        "cut": told("s3://b/1"),
        "branches": {"left": {"deeper": told("s3://b/2")}},
        "all": [1, [told("s3://b/3")]],
    }
    params = {"l": [f"s3://b/{number}" for number in range(1, 5)], "n": 1}
    assert metadata_of(params, files_known(history)) == {
        f"l[{number - 1}]": {"uri": f"s3://b/{number}", "size": 7} for number in range(1, 4)
    }


def test_a_text_that_is_no_uri_is_not_a_file() -> None:
    assert metadata_of({"a": "text", "b": URI}, files_known({"x": [told("text"), told(URI)]})) == {
        "b": {"uri": URI, "size": 7}
    }
