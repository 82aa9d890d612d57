"""Short-lived tokens: got for the worker's own token or certificate, and renewed in time."""

import logging
import math
from collections.abc import Callable
from typing import NoReturn

import attrs
import trio

from avtomatika_trio._config import Secret
from avtomatika_trio._wire.codec import decode, encode
from avtomatika_trio.errors import InvalidMessage, OrchestratorUnavailable, Refused
from avtomatika_trio.worker._api import Http, Request
from avtomatika_trio.worker._credential import Credential

logger = logging.getLogger(__name__)

#: After which part of its life a token is renewed; RXON's workers do the same.
_RENEWED_AFTER = 0.8

#: How often it is looked whether a token was refused, and how long to wait after a failure.
_LOOK_SECONDS = 5.0


@attrs.frozen(kw_only=True)
class _Issued:
    """The answer to a request for tokens."""

    access_token: str
    expires_in: float
    refresh_token: str | None = None


async def keep_access_token(
    http: Http, credential: Credential, on_first: Callable[[], None]
) -> NoReturn:
    """Keep a fresh short-lived token in *credential* until cancelled.

    Args:
        http: The orchestrator that issues it.
        credential: What is shown to it.
        on_first: Called when there is one again after there was none.
    """
    refresh: str | None = None
    renewed_at = -math.inf
    while True:
        lapsed = credential.issued is None
        if lapsed or trio.current_time() >= renewed_at:
            issued = await _ask(http, None if lapsed else refresh)
            if issued is None:
                refresh = None  # next time with the worker's own credential
            else:
                credential.issued = Secret(issued.access_token)
                refresh = issued.refresh_token
                renewed_at = trio.current_time() + _RENEWED_AFTER * issued.expires_in
                if lapsed:
                    on_first()
        left = renewed_at - trio.current_time()
        await trio.sleep(min(_LOOK_SECONDS, left) if left > 0 else _LOOK_SECONDS)


async def _ask(http: Http, refresh: str | None) -> _Issued | None:
    request = Request(method="POST", path="/_worker/auth/token")
    if refresh is not None:
        body = encode({"refresh_token": refresh})
        request = Request(method="POST", path="/_worker/auth/token/refresh", body=body)
    try:
        issued = decode((await http.send(request)).body, _Issued)
    except (OrchestratorUnavailable, Refused, InvalidMessage) as exc:
        logger.warning("%s gives no short-lived token: %s", http.url, exc)
        return None
    if issued.expires_in <= 0:
        return None
    return issued
