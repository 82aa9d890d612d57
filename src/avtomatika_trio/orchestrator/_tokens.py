"""The tokens of an installation that has not been given any.

There is no well-known default secret: without configured tokens the first start makes its
own, into a file that only its owner can read.
"""

import os
import secrets
from pathlib import Path

import attrs
import msgspec

from avtomatika_trio.errors import ConfigError

#: Name of the file, beside the database.
TOKENS_FILE = "avtomatika.tokens"


@attrs.frozen(kw_only=True, repr=False)
class Tokens:
    """What clients and workers must show."""

    client_token: str
    worker_token: str


def read_tokens(path: Path) -> Tokens | None:
    """The tokens in *path*, or None if there is no such file.

    Raises:
        ConfigError: the file is there, but cannot be read or is damaged.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Tokens)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise ConfigError((f"{path}: cannot be read: {exc.strerror}",)) from exc
    except msgspec.DecodeError as exc:
        raise ConfigError((f"{path}: {exc}; delete it, and new tokens are made",)) from exc


def make_tokens(path: Path) -> Tokens:
    """Draw new tokens and keep them in *path*, readable by its owner alone.

    If another process has just done the same, that one's tokens are returned.

    Raises:
        ConfigError: the file cannot be written.
    """
    tokens = Tokens(client_token=secrets.token_urlsafe(24), worker_token=secrets.token_urlsafe(24))
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(tokens)) + b"\n")
        try:
            os.link(draft, path)
        except FileExistsError:
            return read_tokens(path) or tokens
        finally:
            draft.unlink()
    except OSError as exc:
        reason = f"{path}: cannot be written ({exc.strerror}); set CLIENT_TOKEN and WORKER_TOKEN"
        raise ConfigError((reason,)) from exc
    return tokens
