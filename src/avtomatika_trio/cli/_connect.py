"""From the options of a command to a client: which orchestrator, and which token."""

import contextlib
import difflib
import os
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import attrs

from avtomatika_trio._config import (
    OrchestratorSettings,
    is_loopback,
    load_orchestrator_settings,
)
from avtomatika_trio.cli._exits import CommandError, Exit
from avtomatika_trio.cli._places import settings_file, token_files
from avtomatika_trio.errors import OrchestratorUnavailable, Refused
from avtomatika_trio.orchestrator._tokens import Tokens, read_tokens

if TYPE_CHECKING:
    from avtomatika_trio.client import Client

T = TypeVar("T")

URL_VARIABLE = "AVTOMATIKA_URL"
TOKEN_VARIABLE = "AVTOMATIKA_CLIENT_TOKEN"  # noqa: S105 - the name of a variable


@contextlib.contextmanager
def open_client(options: Namespace, silence_seconds: float = 30.0) -> "Iterator[Client]":
    """A client of the orchestrator that *options* and the environment name.

    Args:
        options: Of the command.
        silence_seconds: How long it may be silent.

    Raises:
        ConfigError: a setting is wrong.
        CommandError: the URL is malformed, or there is no token for it.
    """
    from avtomatika_trio.client import Client

    token = os.environ.get(TOKEN_VARIABLE) if options.token is None else options.token
    settings = load_orchestrator_settings(
        environ=os.environ, file=settings_file(options), overrides={"client_token": token}
    ).settings
    url, source = _url(options, settings)
    ca_file = None if settings.tls_ca is None else str(settings.tls_ca)
    # A command is told at once what is wrong; who wants to wait says so.
    with Client(
        url,
        token=_token(url, settings),
        ca_file=ca_file,
        timeout_seconds=silence_seconds,
        retry_seconds=0,
    ) as client:
        try:
            yield client
        except OrchestratorUnavailable as exc:
            start = "`avtomatika serve --blueprints SOURCE` starts one"
            fault = exc.reason.removesuffix(".")
            if "WRONG_VERSION_NUMBER" in fault:
                fault += "; it may not speak TLS: try http:// in place of https://"
            raise attrs.evolve(exc, reason=f"{fault}; {source}; {start}") from exc


def ask_by_name(client: "Client", name: str, ask: Callable[[], T]) -> T:
    """What *ask* returns; if *client* knows no blueprint *name*, its error tells the nearest.

    Raises:
        Refused: as *ask*.
    """
    try:
        return ask()
    except Refused as exc:
        if exc.status != HTTPStatus.NOT_FOUND:
            raise
        remedy = nearest_or_list(name, [each.name for each in client.blueprints()])
        raise attrs.evolve(exc, detail=f"{exc.detail}; {remedy}") from exc


def nearest_or_list(name: str, known: Iterable[str]) -> str:
    """What one who asked for blueprint *name* should do: take the nearest, or look."""
    near = difflib.get_close_matches(name, list(known), n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return "`avtomatika blueprint list` shows those there are"


def _url(options: Namespace, settings: OrchestratorSettings) -> tuple[str, str]:
    """The orchestrator, and where its address is from.

    It is as told, else the one that `serve` would start here.
    """
    given = {"--url": options.url, URL_VARIABLE: os.environ.get(URL_VARIABLE)}
    for source, url in given.items():
        if url is not None:
            return checked_url(source, url), f"the address is from {source}"
    host = settings.host if is_loopback(settings.host) else "127.0.0.1"
    url = url_of(host, settings.port)
    if settings.tls_enabled:
        url = url.replace("http:", "https:", 1)
    return url, "nobody named an address, so it is that of `serve` here (API_HOST, API_PORT)"


def url_of(host: str, port: int) -> str:
    """The URL of what listens on *host*, a name or an address, and *port*."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def checked_url(source: str, url: str, *, example: str = "http://127.0.0.1:8080") -> str:
    """*url*, which *source* gives, without a slash at its end.

    Raises:
        CommandError: it is none.
    """
    try:
        parts = urlsplit(url)
        sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        sound &= "," not in url  # a client would take it for several
    except ValueError:
        sound = False
    if not sound:
        remedy = f"give one such as {example}"
        raise CommandError(Exit.USAGE, f"{source}: {url!r} is not an address; {remedy}")
    return url.rstrip("/")


def _token(url: str, settings: OrchestratorSettings) -> str:
    """The client token for *url*; generated ones are for this machine alone."""
    if settings.client_token is not None:
        return settings.client_token.reveal()
    if is_loopback(urlsplit(url).hostname or ""):
        tokens = generated_tokens(settings)
        if tokens is not None:
            return tokens.client_token
        files = " and no ".join(map(str, token_files(settings)))
        looked = (
            f"there is no {files} in {Path.cwd()} either: `avtomatika serve` makes one in the"
            " folder where it is started"
        )
    else:
        looked = "generated tokens are for orchestrators on this machine only"
    raise CommandError(
        Exit.AUTH,
        f"there is no client token for {url}: give --token, or set CLIENT_TOKEN; {looked};"
        " who runs it can make one: avtomatika token create NAME --client",
    )


def generated_tokens(settings: OrchestratorSettings) -> Tokens | None:
    """The tokens that an orchestrator of this folder has generated, if there are any.

    Raises:
        ConfigError: a file of them cannot be read.
    """
    for path in token_files(settings):
        tokens = read_tokens(path)
        if tokens is not None:
            return tokens
    return None
