"""Whose signature is looked at: that of the very task that is done."""

from typing import Any

from avtomatika_trio._wire.codec import encode
from avtomatika_trio._wire.messages import TaskPayload
from avtomatika_trio._wire.signing import sign_task
from avtomatika_trio.worker._api import Reply
from avtomatika_trio.worker._seal import RefusedTask, Seal

KEY = b"the-key-of-the-tasks"


def a_task(**more: Any) -> dict[str, Any]:
    return {"job_id": "j", "task_id": "t", "type": "x", "params": {}, **more}


def sort(said: Any, count: int = 1, *, listed: bool, key: bytes | None = KEY) -> list[bool]:
    """Whether each of *count* tasks is let through."""
    tasks = [TaskPayload(job_id="j", task_id="t", type="x")] * count
    found = Seal(key).sort(Reply(status=200, body=encode(said)), tasks, listed=listed)
    return [not isinstance(task, RefusedTask) for task in found]


def test_a_signed_task_within_another_does_not_vouch_for_it() -> None:
    good = a_task()
    good["sig"] = sign_task(good, KEY)
    assert sort(good, listed=False) == [True]
    assert sort(a_task(tasks=[good]), listed=False) == [False]
    assert sort({"tasks": [good, a_task()]}, 2, listed=True) == [True, False]


def test_an_answer_without_tasks_is_fine() -> None:
    assert sort({"x": 1}, 0, listed=True) == []


def test_without_a_key_nothing_is_looked_at() -> None:
    assert sort(a_task(), listed=False, key=None) == [True]
