"""Whether a worker's message is what it has signed, and not one that was sent before.

The format is RXON's.  A message is let through a second time if it says the same: whoever did
not get an answer asks again, and every message of a worker may be repeated without effect.
"""

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Protocol

import attrs

from avtomatika_trio._wire.signing import canonical, check_message
from avtomatika_trio.orchestrator._http import HttpProblem

logger = logging.getLogger(__name__)

#: By how much the clocks of a worker and of this host may differ, in seconds; RXON's.
_WINDOW_SECONDS = 60.0

#: Messages that are remembered; the oldest are forgotten first.
_MOST_SEEN = 100_000

#: Members that name a message; without one its signature does.
_NONCES = ("event_id", "nonce", "message_id")


#: The original's workers sign with their own token, whatever they show.
_NO_KEY = (
    "its signature is not by the token that it shows; a worker of the original needs `token`"
    " in clear in workers.toml to show a certificate or a short-lived token"
)


class Signer(Protocol):
    """A worker that was let in, as far as signatures go."""

    @property
    def worker_id(self) -> str: ...

    @property
    def keys(self) -> tuple[bytes, ...]:
        """What its messages may be signed with."""
        ...

    @property
    def lacks_own_key(self) -> bool:
        """Whether it may sign with another token, of which only the hash is known."""
        ...


@attrs.frozen
class _Seen:
    """A message that was let through."""

    signature: str
    content: bytes
    """What it says, but for the time."""


class Signatures:
    """Checks the signed messages of one orchestrator's workers.

    Args:
        policy: `required`, `optional` (what is signed must be signed well) or `off`.
        now: Unix seconds.
    """

    def __init__(self, policy: str, now: Callable[[], float]) -> None:
        self.policy = policy
        self._now = now
        self._seen: OrderedDict[tuple[str, str], _Seen] = OrderedDict()

    def concern(self, body: bytes) -> bool:
        """Whether *body*, as it was received, must be looked at by `check`."""
        if self.policy == "optional":
            return b'"security"' in body
        return self.policy == "required"

    def check(self, sender: Signer, body: Any) -> None:
        """Let *body*, a message as it was received, through.

        Args:
            sender: Who has sent it, as was found out already.
            body: Decoded; anything but an object is left to others to refuse.

        Raises:
            HttpProblem: 403, in RXON's words.
        """
        if not isinstance(body, dict):
            return
        worker_id = sender.worker_id
        security = body.get("security")
        signature = security.get("signature") if isinstance(security, dict) else None
        if not signature:
            if self.policy == "required":
                what = "cryptographic signature" if security else "security context"
                raise _refused(f"Missing required {what} (WORKER_SIGNING=required)")
            return
        assert isinstance(security, dict)
        signer = security.get("signer_id", worker_id)
        if signer != worker_id:
            shown = str(signer)[:128]
            raise _refused(f"Message signer ID '{shown}' does not match worker ID '{worker_id}'")
        if not isinstance(signature, str) or not any(
            check_message(body, signature, key) for key in sender.keys
        ):
            if sender.lacks_own_key:
                logger.warning("%s: %s", worker_id, _NO_KEY)
            raise _refused("Invalid cryptographic signature")
        self._check_repetition(worker_id, body, signature)

    def _check_repetition(self, worker_id: str, body: dict[str, Any], signature: str) -> None:
        named = next((body[it] for it in _NONCES if isinstance(body.get(it), str)), signature)
        content = _content(body)
        seen = self._seen.get((worker_id, named))
        if seen is not None and seen.content != content:
            raise _refused("Duplicate message detected (replay attack)")
        if seen is None or seen.signature != signature:
            self._check_time(body)
        self._seen[worker_id, named] = _Seen(signature, content)
        self._seen.move_to_end((worker_id, named))
        while len(self._seen) > _MOST_SEEN:
            self._seen.popitem(last=False)

    def _check_time(self, body: Mapping[str, Any]) -> None:
        timestamp = body.get("timestamp")
        if isinstance(timestamp, bool) or not isinstance(timestamp, int):
            raise _refused("Missing required timestamp for replay protection")
        if not -_WINDOW_SECONDS <= self._now() - timestamp <= _WINDOW_SECONDS:
            raise _refused("Message timestamp expired (replay protection)")


def _content(body: Mapping[str, Any]) -> bytes:
    kept = {name: it for name, it in body.items() if name not in ("security", "timestamp")}
    return hashlib.sha256(canonical(kept)).digest()


def _refused(detail: str) -> HttpProblem:
    return HttpProblem(HTTPStatus.FORBIDDEN, "signature_refused", detail)
