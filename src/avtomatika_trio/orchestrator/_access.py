"""Who may talk to this orchestrator, kept in step with the storage.

Every request is judged by a copy of the storage's set of credentials.  `run` looks for a newer
one twice a second: then, and when a credential expires, the polls of those that are not let in
any more end, and what they held is queued again (rules A3, A4 of ADR 0013).
"""

import logging
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import inf
from typing import NoReturn

import attrs
import trio

from avtomatika_trio._core import admission
from avtomatika_trio._core.access import (
    GLOBAL,
    AccessSet,
    AuditRow,
    ClientCredential,
    Difference,
    JobClient,
    Role,
    Roster,
    is_over,
)
from avtomatika_trio._core.ledger import Ledger
from avtomatika_trio._core.rules import Rules
from avtomatika_trio._wire.token_hashes import SALT_BYTES, hash_token, matches
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.orchestrator._credential_files import CredentialFiles
from avtomatika_trio.orchestrator._partitions import commit_in_all
from avtomatika_trio.storage._base import Storage

logger = logging.getLogger(__name__)

#: How often the storage is asked for news; a change counts everywhere within a second.
LOOK_SECONDS = 0.5

#: Whom the one client token stands for; no section of `clients.toml` may have this name.
CLIENT_ID = "client"

#: Tokens that were found to be right and are not looked at again; the oldest go first.
_MOST_VERIFIED = 20_000


@attrs.frozen(kw_only=True)
class Client:
    """A client that was let in."""

    id: str
    roles: tuple[Role, ...]
    section: ClientCredential | None = None
    """None = it has shown the one client token."""
    credential: str = attrs.field(default="", repr=False)
    """The hash of the token that it has shown."""


@attrs.define(eq=False)
class Session:
    """A request that stays open while whoever sent it is let in."""

    is_good: Callable[[], bool]
    waiting: trio.CancelScope
    is_over: bool = False
    """Whether it was ended, since the credential is not good any more."""


class Access:
    """Who may talk to one orchestrator.

    Args:
        storage: Where the set of credentials is; open.
        client_token: What clients show that have no token of their own; None = nothing.
        worker_token: What workers show that have no token of their own; None = nothing.
        files: Where the credentials come from, when the storage has none and at a reload.
    """

    def __init__(
        self,
        storage: Storage,
        client_token: str | None,
        worker_token: str | None,
        files: CredentialFiles,
    ) -> None:
        self._storage = storage
        self._files = files
        # These two never leave the process, so they have a salt of its own.
        salt = secrets.token_bytes(SALT_BYTES)
        self._client_hash = "" if not client_token else hash_token(client_token, salt)
        self._worker_hash = "" if not worker_token else hash_token(worker_token, salt)
        self._sessions: set[Session] = set()
        self._older: AccessSet | None = None
        """What was found at the last look, where that was older than what is known."""
        self._is_settled = True
        """Whether nobody holds anything who is not let in any more."""
        self._next_end = inf
        """When the next credential expires of those that were let in at the last look."""
        self._take_over(AccessSet(salt=salt.hex()))

    @property
    def roster(self) -> Roster:
        """Who may talk, as far as it is known here."""
        return self._roster

    def now(self) -> float:
        """The storage's time, by which credentials expire."""
        return self._storage.now()

    # Who it is.

    def worker_credential(self, worker_id: str, token: str) -> str | None:
        """What the static *token* of a worker amounts to, see `Instance.credential`.

        Returns:
            None where it is not right; the reason does not matter to who sends it.
        """
        section = self._roster.worker(worker_id)
        if section is None:
            return GLOBAL if self._is_of_all(token, self._worker_hash) else None
        if is_over(section, self.now()):
            return None
        known = self._verified.get((worker_id, token))
        if known is None:
            known = next((it for it in section.hashes if matches(token, it)), None)
            if known is not None:
                self._remember((worker_id, token), known)
        return known

    def _is_of_all(self, token: str, hashed: str) -> bool:
        """Whether *token* is the one of all with that hash; none is where the hash is empty."""
        if (hashed, token) in self._verified:
            return True
        if not hashed or not matches(token, hashed):
            return False
        self._remember((hashed, token), hashed)
        return True

    def has_section(self, worker_id: str) -> bool:
        """Whether there is a credential for just this worker."""
        return self._roster.worker(worker_id) is not None

    def client(self, token: str) -> Client | None:
        """The client that has *token*."""
        if self._is_of_all(token, self._client_hash):
            return Client(id=CLIENT_ID, roles=(Role.ADMIN,))
        known = self._verified.get(("", token))
        if known is None:
            known = self._find_client_hash(token)
            if known is None:
                return None
            self._remember(("", token), known)
        section = self._roster.clients_by_hash[known]
        if is_over(section, self.now()):
            return None
        return Client(id=section.name, roles=section.roles, section=section, credential=known)

    def lets_in(self, client: Client) -> bool:
        """Whether *client* would still be let in."""
        if client.section is None:
            return True
        section = self._roster.clients.get(client.id)
        if section is None or is_over(section, self.now()):
            return False
        return client.credential in section.hashes

    def _find_client_hash(self, token: str) -> str | None:
        by_hash = self._roster.clients_by_hash
        ours = hash_token(token, bytes.fromhex(self._roster.access.salt))
        if ours in by_hash:
            return ours
        return next((it for it in self._foreign_hashes if matches(token, it)), None)

    def _remember(self, shown: tuple[str, str], known: str) -> None:
        if len(self._verified) >= _MOST_VERIFIED:
            del self._verified[next(iter(self._verified))]
        self._verified[shown] = known

    def job_client(self, client_id: str) -> JobClient:
        """What handlers see of who submitted a job."""
        section = self._roster.clients.get(client_id)
        if section is None:
            return JobClient(id=client_id)
        return JobClient(id=client_id, plan=section.plan, params=dict(section.params))

    @contextmanager
    def session(self, is_good: Callable[[], bool], waiting: trio.CancelScope) -> Iterator[Session]:
        """A request that is cancelled by *waiting* once *is_good* says that it must end."""
        session = Session(is_good, waiting)
        self._sessions.add(session)
        try:
            yield session
        finally:
            self._sessions.discard(session)

    # Changes.

    async def open(self) -> None:
        """Begin to go by the storage; if it was never told of credentials, by the files.

        Raises:
            ConfigError: a file is malformed.
            StorageUnavailable: it cannot be asked.
        """
        fresh = secrets.token_hex(SALT_BYTES)
        access = await self._storage.commit(partial(admission.open_access, fresh_salt=fresh))
        read = await self._files.read(access)
        for warning in read.warnings:
            logger.warning("%s", warning)
        operation = partial(admission.apply_first, workers=read.workers, clients=read.clients)
        applied = await self._storage.commit(operation)
        for file, wanted in (("workers", applied.workers), ("clients", applied.clients)):
            if wanted:
                logger.warning(
                    "the file of %s differs from what the storage goes by, generation %d"
                    " (%s); the storage wins: `avtomatika token reload` applies the file",
                    file,
                    applied.access.generation,
                    told(wanted),
                )
        self._take_over(applied.access)
        self._next_end = self._roster.next_end(self.now())

    async def reload(self, who: str, origin: str, rules: Rules) -> admission.Applied:
        """Take over what the files say now; nothing is changed if they are malformed.

        When this returns, whoever was removed is refused here; elsewhere within a second.

        Args:
            who: For the audit.
            origin: For the audit: the address.
            rules: See `withdraw`.

        Raises:
            ConfigError: with every problem of the files, or there is none.
            StorageUnavailable: nothing has changed.
        """
        read = await self._files.read(self._roster.access, again=True)
        row = AuditRow(at=0.0, who=who, action="reload_credentials", origin=origin)
        operation = partial(admission.apply, workers=read.workers, clients=read.clients, audit=row)
        with trio.CancelScope(shield=True):
            applied = await self._storage.commit(operation)
        for warning in read.warnings:
            logger.warning("%s", warning)
        logger.info(
            "credentials reloaded by %s: generation %d; workers %s; clients %s",
            who,
            applied.access.generation,
            told(applied.workers),
            told(applied.clients),
        )
        await self._follow_or_later(applied.access, rules)
        return applied

    async def run(
        self, rules: Rules, pause: Callable[[float], Awaitable[None]] = trio.sleep
    ) -> NoReturn:
        """Keep in step with the storage and with the time until cancelled.

        Args:
            rules: See `withdraw`.
            pause: How to wait so many seconds between two looks.
        """
        while True:
            await pause(LOOK_SECONDS)
            try:
                access = self._or_known(await self._storage.access())
                is_news = access is not None and access != self._roster.access
                is_due = is_news or self.now() >= self._next_end or not self._is_settled
                if access is not None and is_due:
                    await self._follow(access, rules)
            except StorageUnavailable as exc:
                logger.debug("credentials stay as they are known: %s", exc)

    def _or_known(self, stored: AccessSet | None) -> AccessSet | None:
        """*stored*, unless it is older than what is known here.

        Then it may just have been read before the last change.  Seen twice it is what counts: a
        storage that lost its last writes has gone back, and so does everyone.
        """
        if stored is None or stored.generation > self._roster.access.generation:
            return stored
        seen_before, self._older = stored == self._older, stored
        return stored if seen_before else self._roster.access

    async def _follow_or_later(self, access: AccessSet, rules: Rules) -> None:
        """As `_follow`; what the storage cannot do now, `run` does."""
        try:
            await self._follow(access, rules)
        except StorageUnavailable as exc:
            logger.warning("what was withdrawn is given back later: %s", exc)

    async def _follow(self, access: AccessSet, rules: Rules) -> None:
        """Go by *access*, and see to it that nobody keeps what it does not allow."""
        self._is_settled = False
        if access != self._roster.access:
            self._take_over(access)
        # Of one moment: what expires while the storage is asked is due at the next look.
        roster, now = self._roster, self.now()
        self._next_end = roster.next_end(now)
        for session in tuple(self._sessions):
            if not session.is_good():
                session.is_over = True
                session.waiting.cancel()
        out = [
            it.id
            for it in await self._storage.instances()
            if not it.gone and not roster.lets_in(it.worker_id, it.credential, now)
        ]
        if out:
            count = await self._withdraw(out, (roster, now), rules)
            logger.info("%d attempts of %d processes were withdrawn", count, len(out))
        self._is_settled = True

    async def _withdraw(self, out: list[str], known: tuple[Roster, float], rules: Rules) -> int:
        """Give back what those processes hold, wherever it is; returns how much that was.

        Their homes are told first: from then on they are handed nothing.
        """
        storage = self._storage
        if len(storage.partitions) == 1:
            return await storage.commit(partial(admission.withdraw, instances=out, rules=rules))
        count = 0
        for at_home in (True, False):
            operations: dict[str, Callable[[Ledger], int]] = {}
            for partition in storage.partitions:
                some = [it for it in out if (storage.home_of(it) == partition) is at_home]
                operations[partition] = partial(
                    admission.withdraw, instances=some, rules=rules, known=known
                )
            count += sum((await commit_in_all(storage, operations)).values())
        return count

    def _take_over(self, access: AccessSet) -> None:
        self._roster = Roster(access)
        # By worker id ("" for clients, the hash itself for tokens of all) and token.
        self._verified: dict[tuple[str, str], str] = {}
        ours = f"${access.salt}$"
        self._foreign_hashes = [it for it in self._roster.clients_by_hash if ours not in it]


def told(changed: Difference) -> str:
    """A difference in a line of the log.

    >>> told(Difference(added=("w1",), removed=("w2", "w3")))
    'added w1; removed w2, w3'
    """
    parts = [
        f"{what} {', '.join(names[:20])}{' and others' if len(names) > 20 else ''}"
        for what, names in attrs.asdict(changed).items()
        if names
    ]
    return "; ".join(parts) or "unchanged"
