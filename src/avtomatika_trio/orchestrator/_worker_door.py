"""Who a worker's request is from: what RXON workers show, in the order in which it counts.

A client certificate (its name is the worker id), a short-lived token that was issued here, the
token of the worker's own section, and for a worker without one the token of all.
"""

from functools import partial

import attrs

from avtomatika_trio._core.access import CERTIFICATE, IssuedToken, TokenKind
from avtomatika_trio._core.admission import find_token
from avtomatika_trio._core.arguments import NAME
from avtomatika_trio._wire import messages
from avtomatika_trio._wire.token_hashes import hash_token
from avtomatika_trio.errors import InvalidMessage, Problem
from avtomatika_trio.orchestrator._certificates import names_of
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._http import HttpProblem, Request
from avtomatika_trio.orchestrator._rxon import unauthorized

#: Issued tokens that are known here without asking the storage.
_MOST_KNOWN = 20_000


@attrs.frozen(kw_only=True)
class Sender:
    """A worker that was let in."""

    worker_id: str
    credential: str
    """See `Instance.credential`."""
    skills: frozenset[str] | None
    """What it may be given; None = anything."""
    keys: tuple[bytes, ...] = attrs.field(repr=False)
    """What its messages may be signed with."""
    lacks_own_key: bool = False
    """Whether it may sign with a token that it does not show, and that is known as a hash only."""

    def may_do(self, skills: tuple[str, ...]) -> tuple[str, ...]:
        """Those of *skills* that it may be given tasks of."""
        return skills if self.skills is None else tuple(it for it in skills if it in self.skills)


class Door:
    """Lets workers in to one orchestrator."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._access = context.access
        self._issued: dict[str, IssuedToken] = {}

    async def admit(self, request: Request, in_path: str | None = None) -> Sender:
        """Who has sent *request*.

        Args:
            request: With what the sender shows.
            in_path: The worker id of the path, which wins over the header's.

        Raises:
            HttpProblem: 403, in RXON's words; 429 where an address has guessed too often.
            InvalidMessage: the worker id is none.
        """
        try:
            return await self._identify(request, in_path)
        except HttpProblem:
            await self._context.slow_down(request.address)
            raise

    def lets_in(self, sender: Sender) -> bool:
        """Whether *sender* would still be let in."""
        return self._lets_in(sender.worker_id, sender.credential)

    def is_as_before(self, sender: Sender) -> bool:
        """Whether *sender* would still be let in, and may be given the same."""
        return self.lets_in(sender) and self._skills_of(sender.worker_id) == sender.skills

    def _skills_of(self, worker_id: str) -> frozenset[str] | None:
        section = self._access.roster.worker(worker_id)
        return None if section is None or section.skills is None else frozenset(section.skills)

    def _lets_in(self, worker_id: str, credential: str) -> bool:
        access = self._access
        return access.roster.lets_in(worker_id, credential, access.now())

    async def _identify(self, request: Request, in_path: str | None) -> Sender:
        hint = in_path or request.headers.get(messages.WORKER_ID_HEADER.lower())
        token = request.headers.get(messages.TOKEN_HEADER.lower())
        mode = self._context.security.auth_mode
        names = names_of(request.certificate) if mode != "token-only" else ()
        if names:
            return await self._by_certificate(names, hint, token)
        if token is None:
            raise unauthorized("Missing X-Worker-Token header or client certificate.")
        if not hint:
            raise unauthorized("Missing X-Worker-ID header")
        if NAME.fullmatch(hint) is None:
            raise InvalidMessage((Problem("worker_id", f"is not a worker id: {hint[:128]!r}"),))
        issued = self._known(token)
        if issued is None and mode != "mtls-only":
            credential = self._access.worker_credential(hint, token)
            if credential is not None:
                return self._sender(hint, credential, token)
        issued = issued or await self._find(token)
        if issued is not None:
            return self._by_issued(issued, hint, token)
        if mode == "mtls-only":
            raise unauthorized("Invalid authentication method (WORKER_AUTH_MODE=mtls-only).")
        if self._access.has_section(hint):
            raise unauthorized("Invalid individual worker token")
        raise unauthorized("No valid token found (GLOBAL_WORKER_TOKEN / WORKER_TOKEN)")

    async def _by_certificate(
        self, names: tuple[str, ...], hint: str | None, token: str | None
    ) -> Sender:
        worker_id = hint or names[0]
        if worker_id not in names:
            shown = ", ".join(names)
            raise unauthorized(
                f"Certificate name '{shown}' does not match worker_id '{worker_id[:128]}'"
            )
        if not self._lets_in(worker_id, CERTIFICATE):
            raise unauthorized(f"The credential of '{worker_id}' has expired")
        key = token if token is not None and await self._is_of(worker_id, token) else None
        return self._sender(worker_id, CERTIFICATE, key, signs_otherwise=True)

    async def _is_of(self, worker_id: str, token: str) -> bool:
        if self._access.worker_credential(worker_id, token) is not None:
            return True
        issued = self._known(token) or await self._find(token)
        return issued is not None and issued.worker_id == worker_id

    def _by_issued(self, issued: IssuedToken, hint: str, token: str) -> Sender:
        if issued.worker_id != hint:
            raise unauthorized(
                f"Access Token belongs to '{issued.worker_id}', but request is for '{hint}'"
            )
        if not self._lets_in(hint, issued.credential):
            raise unauthorized("The credential that this Access Token was issued for is withdrawn")
        return self._sender(hint, issued.credential, token, signs_otherwise=True)

    def _sender(
        self,
        worker_id: str,
        credential: str,
        token: str | None,
        *,
        signs_otherwise: bool = False,
    ) -> Sender:
        section = self._access.roster.worker(worker_id)
        clear = () if section is None else self._context.files.clear.get(section.name, ())
        keys = [*(() if token is None else (token,)), *(clear if signs_otherwise else ())]
        return Sender(
            worker_id=worker_id,
            credential=credential,
            skills=self._skills_of(worker_id),
            keys=tuple(key.encode() for key in keys),
            lacks_own_key=signs_otherwise and not clear,
        )

    def _known(self, token: str) -> IssuedToken | None:
        """The issued token, if it was seen before and is not over."""
        issued = self._issued.get(token)
        if issued is not None and issued.expires_at <= self._access.now():
            del self._issued[token]
            return None
        return issued

    async def _find(self, token: str) -> IssuedToken | None:
        salt = bytes.fromhex(self._access.roster.access.salt)
        operation = partial(find_token, token_hash=hash_token(token, salt), kind=TokenKind.ACCESS)
        issued = await self._context.storage.commit(operation)
        if issued is not None:
            if len(self._issued) >= _MOST_KNOWN:
                del self._issued[next(iter(self._issued))]
            self._issued[token] = issued
        return issued
