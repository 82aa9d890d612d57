"""`Idempotency-Key`: a submission that is sent again is answered again, and makes no new jobs.

What was answered is stored with the jobs, see `_core.submissions`; here is only which keys are
being worked on in this process.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import attrs
from quart import request

from avtomatika_trio._core.submission import Submission
from avtomatika_trio._core.submissions import KEPT_SECONDS
from avtomatika_trio._wire.messages import IDEMPOTENCY_SECONDS_HEADER
from avtomatika_trio.errors import InvalidMessage, Problem
from avtomatika_trio.orchestrator._http import HttpProblem

HEADER = "Idempotency-Key"

#: Of an answer that was given before.
REPLAYED = {"idempotent-replayed": "true"}

#: Of every answer to a submission: keys are known here, for so long.
KNOWN = {IDEMPOTENCY_SECONDS_HEADER: f"{KEPT_SECONDS:.0f}"}

_KEY = re.compile(r"[\x20-\x7e]{1,255}")


@attrs.frozen(kw_only=True)
class Asked:
    """A submission that has a key."""

    id: str
    """A hash of client and key; names the partition of all that comes of it."""
    client: str
    request: str
    """A hash of blueprint and body."""

    def answered_by(self, job_ids: tuple[str, ...]) -> Submission:
        """The record of it."""
        return Submission(id=self.id, client=self.client, request=self.request, job_ids=job_ids)

    def check(self, before: Submission) -> None:
        """See that what was submitted *before* with the key is the same.

        Raises:
            HttpProblem: 422, it is not.
        """
        if before.request != self.request:
            hours = round(KEPT_SECONDS / 3600)
            detail = (
                f"within the last {hours} hours this {HEADER} came with another body or for another"
                " blueprint; draw a new key for each submission"
            )
            raise HttpProblem(HTTPStatus.UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail)


def asked_once(client: str, blueprint: str, body: bytes) -> Asked | None:
    """What the request's key and *body* come to; None if it has no key.

    Raises:
        InvalidMessage: the key is malformed.
    """
    keys = request.headers.getlist(HEADER)
    if not keys:
        return None
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        text = "must come once, with 1 to 255 printable characters of ASCII; a UUID will do"
        raise InvalidMessage((Problem(HEADER, text),))
    return Asked(
        id=_hash(client.encode(), keys[0].encode()),
        client=client,
        request=_hash(blueprint.encode(), body),
    )


def _hash(first: bytes, second: bytes) -> str:
    """Of both, so that what ends the one cannot as well begin the other."""
    return hashlib.sha256(b"%d:%b%b" % (len(first), first, second)).hexdigest()


class KeysInUse:
    """Which keys this process is working on."""

    def __init__(self) -> None:
        self._ids: set[str] = set()

    @contextmanager
    def hold(self, asked: Asked | None) -> Iterator[None]:
        """Work on what was asked, for the length of the block.

        Raises:
            HttpProblem: 409, somebody does already.
        """
        if asked is None:
            yield
            return
        if asked.id in self._ids:
            detail = f"the first request with this {HEADER} is not answered yet; try again"
            headers = {"retry-after": "1"}
            status = HTTPStatus.CONFLICT
            raise HttpProblem(status, "idempotency_key_in_use", detail, headers=headers)
        self._ids.add(asked.id)
        try:
            yield
        finally:
            self._ids.discard(asked.id)
