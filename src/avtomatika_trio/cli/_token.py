"""`avtomatika token`: who may talk, as `workers.toml` and `clients.toml` have it."""

import getpass
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from avtomatika_trio._config import (
    ClientEntry,
    OrchestratorSettings,
    load_orchestrator_settings,
)
from avtomatika_trio._wire.token_hashes import is_token_hash
from avtomatika_trio.cli._connect import open_client
from avtomatika_trio.cli._exits import CommandError, Exit
from avtomatika_trio.cli._output import note, print_json, print_line, print_records
from avtomatika_trio.cli._places import settings_file
from avtomatika_trio.cli._token_file import Entry, TokenFile, hashed, new_token

_MOST_TOKENS = 2

_COLUMNS = {
    "NAME": "name",
    "TOKENS": "tokens",
    "KEPT": "kept",
    "EXPIRES": "expires_at",
    "MAY": "may",
    "DESCRIPTION": "description",
}

_RELOAD = "`avtomatika token reload` puts it in force"


def run(options: Namespace) -> int:
    """Do what the verb says.

    Raises:
        CommandError: it cannot be done: the name is not there, or there already.
        ConfigError: the file is malformed, or would be.
        AvtomatikaError: as the client raises.
    """
    if options.verb == "hash":
        return _hash()
    if options.verb == "reload":
        return _reload(options)
    verbs: dict[str, Callable[[TokenFile, Namespace], int]] = {
        "create": _create,
        "list": _list,
        "rotate": _rotate,
        "revoke": _revoke,
    }
    return verbs[options.verb](_file(options), options)


def _file(options: Namespace) -> TokenFile:
    """The file to work on: as told, else that of the settings, else the usual one."""
    if options.file is not None:
        return TokenFile(path=Path(options.file), is_clients=options.client)
    # What the settings say of the file must not fail because it is not there yet.
    named = "CLIENTS_CONFIG_PATH" if options.client else "WORKERS_CONFIG_PATH"
    path = os.environ.get(named)
    if path is None:
        settings: OrchestratorSettings = load_orchestrator_settings(
            environ=os.environ, file=settings_file(options), overrides={}
        ).settings
        found = settings.clients_config if options.client else settings.workers_config
        usual = Path("clients.toml" if options.client else "workers.toml")
        return TokenFile(path=found or usual, is_clients=options.client)
    return TokenFile(path=Path(path), is_clients=options.client)


def _create(file: TokenFile, options: Namespace) -> int:
    if any(it.name == options.name for it in file.entries()):
        remedy = "`avtomatika token rotate` gives it another token"
        raise CommandError(Exit.CONFLICT, f"{file.path} has {options.name!r} already; {remedy}")
    token = new_token()
    file.add(options.name, {"token_hash": hashed(token), **_fields(options)})
    _tell_token(file, options, token)
    if file.is_clients:
        note(f"  next  {_RELOAD}; the client sends it as X-Client-Token")
    else:
        fits = any(mark in options.name for mark in "*?[")
        who = f"one that fits {options.name}" if fits else options.name
        note(
            f"  next  {_RELOAD}; the worker is started with WORKER_ID={who} and"
            " AVTOMATIKA_WORKER_TOKEN=..."
        )
    return Exit.OK


def _fields(options: Namespace) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if options.client and options.skills is not None:
        raise CommandError(Exit.USAGE, "--skills is for workers; leave it out, or --client")
    only = (options.roles, options.plan, options.monthly_attempts)
    if not options.client and any(it is not None for it in only):
        fault = "--roles, --plan and --monthly-attempts are for clients"
        raise CommandError(Exit.USAGE, f"{fault}; add --client")
    if options.expires is not None:
        fields["expires_at"] = options.expires
    for name in ("skills", "roles"):
        text = getattr(options, name)
        if text is not None:
            fields[name] = [it.strip() for it in text.split(",")]
    for name in ("plan", "monthly_attempts", "description"):
        if getattr(options, name) is not None:
            fields[name] = getattr(options, name)
    return fields


def _tell_token(file: TokenFile, options: Namespace, token: str) -> None:
    note(f"{options.name}: its token is told now, and never again; {file.path} has its hash")
    if options.output == "json":
        print_json({"name": options.name, "token": token, "file": str(file.path)})
    else:
        print_line(token)


def _hash() -> int:
    on_terminal = sys.stdin.isatty()
    token = getpass.getpass("token: ") if on_terminal else sys.stdin.readline().strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        fault = "a token has printable ASCII characters and no spaces"
        raise CommandError(Exit.USAGE, f"{fault}; give one on stdin")
    if is_token_hash(token):
        raise CommandError(Exit.USAGE, "this is a hash already; give the token itself")
    print_line(hashed(token))
    note("write it into workers.toml or clients.toml as token_hash")
    return Exit.OK


def _list(file: TokenFile, options: Namespace) -> int:
    if not file.path.exists():
        note(f"there is no {file.path}; `avtomatika token create NAME` makes it")
    records = [_shown(it) for it in file.entries()]
    print_records(options.output, records, _COLUMNS)
    return Exit.OK


def _shown(entry: Entry) -> Mapping[str, Any]:
    ends = entry.expires_at
    may = entry.roles if isinstance(entry, ClientEntry) else entry.skills
    kinds = [name for name, kept in (("clear", entry.tokens), ("hashed", entry.hashes)) if kept]
    return {
        "name": entry.name,
        "tokens": len(entry.tokens) + len(entry.hashes),
        "kept": " and ".join(kinds),
        "expires_at": None if ends is None else f"{datetime.fromtimestamp(ends, UTC):%FT%TZ}",
        "may": "anything" if may is None else ",".join(may),
        "description": entry.description,
    }


def _rotate(file: TokenFile, options: Namespace) -> int:
    entry = file.entry(options.name)
    old = [*(hashed(it.reveal()) for it in entry.tokens), *entry.hashes]
    if options.finish:
        if len(old) < _MOST_TOKENS:
            fault = f"{options.name!r} has one token only; there is nothing to finish"
            raise CommandError(Exit.CONFLICT, fault)
        file.set_hashes(options.name, old[:1])
        note(f"{options.name}: the older token is gone from {file.path}; {_RELOAD}")
        return Exit.OK
    if len(old) >= _MOST_TOKENS:
        fault = f"{options.name!r} has two tokens already; drop the older one with --finish first"
        raise CommandError(Exit.CONFLICT, fault)
    token = new_token()
    file.set_hashes(options.name, [hashed(token), *old])
    _tell_token(file, options, token)
    note(
        f"  next  {_RELOAD}, beside the old one; give it to {options.name}; then"
        f" `avtomatika token rotate {options.name} --finish` and reload again"
    )
    return Exit.OK


def _revoke(file: TokenFile, options: Namespace) -> int:
    file.entry(options.name)
    file.remove(options.name)
    note(f"{options.name} is gone from {file.path}; {_RELOAD}: from then on it is refused")
    return Exit.OK


def _reload(options: Namespace) -> int:
    with open_client(options) as client:
        answer = client.reload_access()
    if options.output == "json":
        print_json(answer)
        return Exit.OK
    note(f"{client.url} goes by generation {answer['generation']}")
    for kind in ("workers", "clients"):
        changed = [f"{what} {', '.join(names)}" for what, names in answer[kind].items() if names]
        print_line(f"{kind}: {'; '.join(changed) or 'unchanged'}")
    return Exit.OK
