"""What a handler may return or raise, and what is made of it.  Nothing is dropped.

Returned:

* `None` - success without data.
* a dict whose keys are all out of `status`, `data`, `error`, `error_type`, `metadata`,
  `costs`, `data_metadata`, and whose `status` is a text - a result as it is: any status that
  the blueprint lists, `failure` with an error, `cancelled` to give the task back.
* any other dict - success, with that dict as data; also when one of its keys is `status`.
* any other JSON value - success, with that value as data.
* an instance of a dataclass, an attrs class, a msgspec.Struct or a pydantic model, also within
  dicts and lists - as the dict of its fields; alone it is always data, never a result.
* data that does not fit the annotation of what is returned - a failure
  `CONTRACT_VIOLATION_ERROR` that names the places.  A result as it is is not looked at, and
  instances of pydantic models were checked by their classes.
* anything else (a set, NaN, bytes, an object) - a failure `PERMANENT_ERROR` that names the
  place and the remedy: running it again would not make it JSON.

`error` of a result is a dict of `code`, `message`, `details` (further keys are kept in
`details`), or a text, which counts as `TRANSIENT_ERROR` unless `error_type` tells the code.

Raised:

* `TransientError`, `PermanentError`, `InvalidInput` - failure with their code, message and
  details.
* any other exception - `TRANSIENT_ERROR`, "ValueError: the text", and the traceback in the
  log.  A group of one counts as that one; in a group of several the code is theirs if all of
  them have the same.
"""

import json
from collections.abc import Mapping
from typing import Any

import attrs

from avtomatika_trio._core.json_values import NotJson, copy_json
from avtomatika_trio._models import Misfit
from avtomatika_trio._shapes import Shape
from avtomatika_trio._wire.codec import encode
from avtomatika_trio._wire.file_metadata import file_metadata
from avtomatika_trio.errors import HandlerError

TRANSIENT = "TRANSIENT_ERROR"
PERMANENT = "PERMANENT_ERROR"
INVALID_INPUT = "INVALID_INPUT_ERROR"
CONTRACT_VIOLATION = "CONTRACT_VIOLATION_ERROR"
FAILURE = "failure"

_RESULT_KEYS = frozenset(
    {"status", "data", "error", "error_type", "metadata", "costs", "data_metadata"}
)
_PASSED_ON = ("metadata", "costs", "data_metadata")
_ERROR_KEYS = frozenset({"code", "message", "details"})

#: Longer error texts are cut: they are for reading, and a result has to fit one request.
_MOST_MESSAGE_CHARACTERS = 10_000
_MOST_STATUS_CHARACTERS = 128


@attrs.frozen(kw_only=True)
class Outcome:
    """How an attempt ended, made of JSON values only."""

    status: str = "success"
    data: Any = None
    error: Mapping[str, Any] | None = None
    passed_on: Mapping[str, Any] = attrs.field(factory=dict)
    """`metadata`, `costs` and `data_metadata`, if the handler told them."""

    def body(
        self,
        *,
        job_id: str,
        task_id: str,
        worker_id: str,
        any_data: bool,
        more: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The result as it goes over the wire, encoded.

        Args:
            job_id: Whose task it was.
            task_id: The attempt's wire id.
            worker_id: Who did it.
            any_data: Whether the server is one of ours, which takes any JSON value as `data`;
                for others what is no object becomes `{"result": ...}`.
            more: Further members, of extensions.
        """
        message = {"job_id": job_id, "task_id": task_id, "worker_id": worker_id}
        said: dict[str, Any] = {**message, "status": self.status, **self.passed_on}
        if not any_data and isinstance(known := said.get("data_metadata"), dict):
            entries = {it: entry for it, entry in known.items() if isinstance(entry, dict)}
            said["data_metadata"] = {it: file_metadata(entry) for it, entry in entries.items()}
        if self.data is not None:
            keeps = any_data or isinstance(self.data, dict)
            said["data"] = self.data if keeps else {"result": self.data}
        if self.error is not None:
            said["error"] = self.error
        return encode(said | dict(more or {}))


def failed(code: str, message: str, details: Mapping[str, Any] | None = None) -> Outcome:
    """A failure."""
    text = _readable(message)
    error = {"code": code, "message": text, "details": dict(details or {})}
    return Outcome(status=FAILURE, error=error)


def not_json(exc: NotJson, who: str = "the handler") -> Outcome:
    """The failure of an attempt whose value, which *who* returned, cannot be sent."""
    return failed(PERMANENT, f"what {who} returned is not JSON: {exc}")


def outcome_of_return(
    value: Any,
    returns: Shape | None = None,
    *,
    is_data: bool = False,
    unwritten: Any = None,
    who: str = "the handler",
) -> Outcome:
    """What *value*, which a handler returned, means.

    Args:
        value: JSON, if all is well.
        returns: What the handler has promised to return.
        is_data: Whether it is data even if it has the keys of a result.
        unwritten: The same with the instances of pydantic models that are in it, if
            *returns* has such: these their classes have checked already.
        who: Returned it, for messages.
    """
    try:
        value = copy_json(value, "result")
    except NotJson as exc:
        return not_json(exc, who)
    if is_data or not _is_result(value):
        if returns is not None and (misfit := _misfit(value, returns, unwritten)) is not None:
            text = f"what {who} returned does not fit the handler's annotation: {misfit}"
            return failed(CONTRACT_VIOLATION, text, misfit.details)
        return Outcome(data=value)
    status = value["status"]
    if not 1 <= len(status) <= _MOST_STATUS_CHARACTERS or not status.isprintable():
        return failed(
            PERMANENT,
            f"{who} returned the status {status!r}; it has 1 to 128 printable characters",
            {"returned": value},
        )
    error = _error(value.get("error"), value.get("error_type"))
    if error is None and status == FAILURE:
        error = {"code": TRANSIENT, "message": "the handler gave no reason", "details": {}}
    return Outcome(
        status=status,
        data=value.get("data"),
        error=error,
        passed_on={key: value[key] for key in _PASSED_ON if value.get(key) is not None},
    )


def _is_result(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("status"), str)
        and value.keys() <= _RESULT_KEYS
    )


def _misfit(data: Any, returns: Shape, unwritten: Any) -> Misfit | None:
    """What is wrong with *data*; a model need not be able to read what it writes."""
    misfit: Misfit | None = None
    for value in (data, unwritten) if returns.has_models else (data,):
        try:
            returns.build(value)
        except Misfit as exc:
            misfit = exc
        else:
            return None
    return misfit


def _error(error: Any, kind: Any) -> dict[str, Any] | None:
    """The three ways to write an error, as one."""
    if error is None and kind is None:
        return None
    code = kind if isinstance(kind, str) and kind else TRANSIENT
    details: dict[str, Any] = {}
    if kind is not None and kind != code:
        details["error_type"] = kind
    match error:
        case None:
            message = code
        case str():
            message = error
        case dict():
            details |= {key: error[key] for key in error.keys() - _ERROR_KEYS}
            written = error.get("details")
            details |= written if isinstance(written, dict) else {}
            if written is not None and not isinstance(written, dict):
                details["details"] = written
            code = _text_or_json(error.get("code")) or code
            message = _text_or_json(error.get("message"))
        case _:
            message = _text_or_json(error)
    return {"code": code, "message": _readable(message), "details": details}


def outcome_of_error(exc: BaseException) -> Outcome:
    """What *exc*, which a handler raised, means."""
    if isinstance(exc, HandlerError):
        return failed(str(exc.code), _text_of(exc), _details_of(exc))
    if isinstance(exc, BaseExceptionGroup):
        details = {"exceptions": [_readable(_described(one)) for one in exc.exceptions]}
        codes = {_code_of(one) for one in exc.exceptions}
        return failed(codes.pop() if len(codes) == 1 else TRANSIENT, _described(exc), details)
    return failed(TRANSIENT, _described(exc))


def _code_of(exc: BaseException) -> str:
    """Of one in a group: tasks that fail together for good have failed for good."""
    one = unwrapped(exc)
    return str(one.code) if isinstance(one, HandlerError) else TRANSIENT


def _details_of(exc: HandlerError) -> dict[str, Any]:
    """Its details as JSON.  Its class may be of an author, and do without what ours has set."""
    written: Any = None
    try:
        written = getattr(exc, "details", None)
        details = copy_json(written, "details")
    except NotJson as fault:
        return {"details": _readable(_repr_of(written)), "not_json": str(fault)}
    except Exception as fault:  # noqa: BLE001 - the border to foreign code: what it is made of
        return {"not_json": f"the details cannot be read: {type(fault).__name__}"}
    if details is None:
        return {}
    return details if isinstance(details, dict) else {"details": details}


def unwrapped(exc: BaseException) -> BaseException:
    """The one exception inside groups of one, or *exc*."""
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc


def _described(exc: BaseException) -> str:
    text = _text_of(exc)
    name = type(exc).__name__
    return f"{name}: {text}" if text else name


def _text_of(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception as fault:  # noqa: BLE001 - the border to foreign code: its __str__
        return f"(its text cannot be had: {type(fault).__name__})"


def _repr_of(value: Any) -> str:
    try:
        return repr(value)
    except Exception as fault:  # noqa: BLE001 - the border to foreign code: its __repr__
        return f"(it cannot be shown: {type(fault).__name__})"


def _text_or_json(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _readable(text: str) -> str:
    """*text* as valid Unicode and not too long."""
    clean = text.encode(errors="replace").decode()
    if len(clean) <= _MOST_MESSAGE_CHARACTERS:
        return clean
    return f"{clean[:_MOST_MESSAGE_CHARACTERS]}... ({len(clean)} characters)"
