"""`workers.toml` or `clients.toml`, changed in place: comments and order stay as they are."""

import difflib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import tomlkit
from tomlkit.items import Table

from avtomatika_trio._config import (
    ClientEntry,
    WorkerEntry,
    read_clients_file,
    read_workers_file,
)
from avtomatika_trio._wire.token_hashes import SALT_BYTES, hash_token
from avtomatika_trio.cli._exits import CommandError, Exit
from avtomatika_trio.errors import ConfigError

_NEW_TOKEN_BYTES = 32

_TOKEN_KEYS = ("token", "token_hash", "tokens")

Entry = WorkerEntry | ClientEntry


def new_token() -> str:
    """A fresh token of 256 bits."""
    return secrets.token_urlsafe(_NEW_TOKEN_BYTES)


def hashed(token: str) -> str:
    """*token*, as it may stand in a file."""
    return hash_token(token, secrets.token_bytes(SALT_BYTES))


@attrs.frozen(kw_only=True)
class TokenFile:
    """One of the two files, which need not be there yet."""

    path: Path
    is_clients: bool

    def entries(self) -> tuple[Entry, ...]:
        """Its sections.

        Raises:
            ConfigError: with every problem of the file.
        """
        if not self.path.exists():
            return ()
        if self.is_clients:
            return read_clients_file(self.path).entries
        return read_workers_file(self.path).entries

    def entry(self, name: str) -> Entry:
        """The section *name*.

        Raises:
            CommandError: there is none.
            ConfigError: with every problem of the file.
        """
        entries = {it.name: it for it in self.entries()}
        if name not in entries:
            near = difflib.get_close_matches(name, list(entries), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "; `avtomatika token list` shows all"
            raise CommandError(Exit.NOT_FOUND, f"{self.path} has no section {name!r}{hint}")
        return entries[name]

    def add(self, name: str, values: dict[str, Any]) -> None:
        """Add the section *name*, which is new.

        Raises:
            ConfigError: it would be malformed; the file is as it was.
        """
        document = self._document()
        table = tomlkit.table()
        for key, value in values.items():
            table.add(key, value)
        document.add(name, table)
        self._write(document)

    def set_hashes(self, name: str, hashes: Iterable[str]) -> None:
        """Let these take the place of every token of the section *name*."""
        document = self._document()
        table = document[self._written(document, name)]
        if not isinstance(table, Table):
            fault = f"{self.path} has {name!r} on one line; write it as [{name}] first"
            raise CommandError(Exit.CONFLICT, fault)
        for key in _TOKEN_KEYS:
            table.pop(key, None)
        listed = list(hashes)
        table["token_hash"] = listed[0] if len(listed) == 1 else listed
        self._write(document)

    def remove(self, name: str) -> None:
        """Remove the section *name*."""
        document = self._document()
        document.remove(self._written(document, name))
        self._write(document)

    def _document(self) -> tomlkit.TOMLDocument:
        return tomlkit.parse(self.path.read_text()) if self.path.exists() else tomlkit.document()

    @staticmethod
    def _written(document: tomlkit.TOMLDocument, name: str) -> str:
        """The section's name as it stands there: wildcards may have the original's mark."""
        return name if name in document else f"pattern:{name}"

    def _write(self, document: tomlkit.TOMLDocument) -> None:
        """Put a changed file in the place of the old one, if it is well formed."""
        draft = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        mode = self.path.stat().st_mode & 0o777 if self.path.exists() else 0o600
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            try:
                with os.fdopen(descriptor, "w") as file:
                    file.write(tomlkit.dumps(document))
                    file.flush()
                    os.fsync(file.fileno())
                self._check(draft)
                draft.replace(self.path)
            finally:
                draft.unlink(missing_ok=True)
        except OSError as exc:
            raise CommandError(
                Exit.FAILED,
                f"{self.path} cannot be written: {exc.strerror}; nothing was changed; make its"
                " folder writable, or give another --file",
            ) from exc

    def _check(self, draft: Path) -> None:
        try:
            attrs.evolve(self, path=draft).entries()
        except ConfigError as exc:
            told = tuple(it.replace(str(draft), str(self.path)) for it in exc.problems)
            raise ConfigError(told) from None
