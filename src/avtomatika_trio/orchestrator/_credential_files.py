"""From `workers.toml` and `clients.toml` to credentials: read, hashed, forgotten."""

from functools import partial
from pathlib import Path
from typing import Protocol

import attrs
import trio

from avtomatika_trio._config import (
    ClientEntry,
    Secret,
    WorkerEntry,
    read_clients_file,
    read_workers_file,
)
from avtomatika_trio._core.access import AccessSet, ClientCredential, WorkerCredential
from avtomatika_trio._wire.token_hashes import hash_token
from avtomatika_trio.errors import ConfigError

#: Where the files are looked for when nobody names them.
WORKERS_FILE = Path("workers.toml")
CLIENTS_FILE = Path("clients.toml")

#: Belongs to the one client token, whose jobs would otherwise be another's.
_RESERVED = "client"


@attrs.frozen(kw_only=True)
class Read:
    """What the files say; None where there is none."""

    workers: tuple[WorkerCredential, ...] | None = None
    clients: tuple[ClientCredential, ...] | None = None
    warnings: tuple[str, ...] = ()


class _Entry(Protocol):
    @property
    def tokens(self) -> tuple[Secret, ...]: ...

    @property
    def hashes(self) -> tuple[str, ...]: ...


@attrs.define
class CredentialFiles:
    """The two files of an installation."""

    workers: Path | None = None
    clients: Path | None = None
    looks_around: bool = False
    """Whether a file that is not named is looked for in the working directory."""
    clear: dict[str, tuple[str, ...]] = attrs.field(factory=dict, init=False, repr=False)
    """By section of `workers.toml`: tokens that stand there in clear.  Workers of the original
    system sign with these also when they show another one; they are kept in no other place."""

    async def read(self, access: AccessSet, *, again: bool = False) -> Read:
        """What the files say now.

        Args:
            access: Whose salt tokens are hashed with.
            again: Whether somebody asks for it: then there must be something.

        Raises:
            ConfigError: with every problem.
        """
        if self.workers is None and self.clients is None and not self.looks_around:
            # No file, and so no thread: a test's clock does not see them.
            return self._read(access, again=again)
        return await trio.to_thread.run_sync(partial(self._read, access, again=again))

    def _read(self, access: AccessSet, *, again: bool) -> Read:
        workers = self._present(self.workers, WORKERS_FILE)
        clients = self._present(self.clients, CLIENTS_FILE)
        problems: list[str] = []
        if again:
            problems += _missing(access, workers, clients)
        salt = bytes.fromhex(access.salt)
        warnings: list[str] = []
        found = Read()
        clear: dict[str, tuple[str, ...]] = {}
        try:
            if workers is not None:
                said = read_workers_file(workers)
                warnings += said.warnings
                found = attrs.evolve(found, workers=tuple(_worker(it, salt) for it in said.entries))
                clear = {
                    it.name: tuple(token.reveal() for token in it.tokens) for it in said.entries
                }
        except ConfigError as exc:
            problems += exc.problems
        try:
            if clients is not None:
                listed = read_clients_file(clients)
                warnings += listed.warnings
                if any(it.name == _RESERVED for it in listed.entries):
                    problems.append(
                        f"{clients}: [{_RESERVED}] is the name of whoever has CLIENT_TOKEN;"
                        " choose another"
                    )
                found = attrs.evolve(
                    found, clients=tuple(_client(it, salt) for it in listed.entries)
                )
        except ConfigError as exc:
            problems += exc.problems
        if problems:
            raise ConfigError(tuple(problems))
        self.clear = clear
        return attrs.evolve(found, warnings=tuple(warnings))

    def _present(self, named: Path | None, usual: Path) -> Path | None:
        if named is None and self.looks_around and usual.exists():
            return usual
        return named


def _missing(access: AccessSet, workers: Path | None, clients: Path | None) -> list[str]:
    """Why there is nothing to reload, or a file has vanished that must be emptied instead."""
    if workers is None and clients is None:
        remedy = "set WORKERS_CONFIG_PATH or CLIENTS_CONFIG_PATH"
        return [f"there is no workers.toml and no clients.toml here; {remedy}"]
    return [
        f"{name} is not there any more, and its credentials are in force; to withdraw all of"
        " them put an empty file in its place"
        for name, file, stored in (
            (WORKERS_FILE, workers, access.workers),
            (CLIENTS_FILE, clients, access.clients),
        )
        if file is None and stored
    ]


def _hashes(entry: _Entry, salt: bytes) -> tuple[str, ...]:
    return (*(hash_token(token.reveal(), salt) for token in entry.tokens), *entry.hashes)


def _worker(entry: WorkerEntry, salt: bytes) -> WorkerCredential:
    return WorkerCredential(
        name=entry.name,
        hashes=_hashes(entry, salt),
        expires_at=entry.expires_at,
        skills=entry.skills,
        description=entry.description,
    )


def _client(entry: ClientEntry, salt: bytes) -> ClientCredential:
    return ClientCredential(
        name=entry.name,
        hashes=_hashes(entry, salt),
        expires_at=entry.expires_at,
        plan=entry.plan,
        monthly_attempts=entry.monthly_attempts,
        roles=entry.roles,
        params=entry.params,
        description=entry.description,
    )
