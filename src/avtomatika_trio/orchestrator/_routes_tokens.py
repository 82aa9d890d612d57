"""Short-lived tokens for workers: `POST /_worker/auth/token` and `.../refresh`."""

import secrets
from functools import partial
from http import HTTPStatus

from avtomatika_trio._core.access import IssuedToken, TokenKind
from avtomatika_trio._core.admission import exchange, issue
from avtomatika_trio._core.arguments import NAME
from avtomatika_trio._wire.codec import decode
from avtomatika_trio._wire.messages import WORKER_ID_HEADER
from avtomatika_trio._wire.token_hashes import hash_token
from avtomatika_trio.orchestrator._answer_shapes import Issued
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._http import HttpProblem, Request
from avtomatika_trio.orchestrator._rxon import unauthorized
from avtomatika_trio.orchestrator._table_workers import Refresh
from avtomatika_trio.orchestrator._worker_door import Sender

#: How long a refresh token is good for; RXON's.
_REFRESH_SECONDS = 86_400.0

_TOKEN_BYTES = 32


async def issue_tokens(context: Context, sender: Sender) -> Issued:
    """A pair of tokens for *sender*, which has just shown who it is."""
    answer, tokens = _make(context, sender.worker_id, sender.credential)
    await context.storage.commit(partial(issue, tokens=tokens))
    return answer


async def refresh_tokens(context: Context, request: Request) -> Issued:
    """A new pair of tokens for a refresh token, which is good for that once.

    Raises:
        HttpProblem: 400 without a worker id, 403 where the token is not good.
        InvalidMessage: there is no refresh token.
    """
    worker_id = request.headers.get(WORKER_ID_HEADER.lower(), "")
    if NAME.fullmatch(worker_id) is None:
        detail = f"Missing worker_id identification: send {WORKER_ID_HEADER}"
        raise HttpProblem(HTTPStatus.BAD_REQUEST, "worker_id_missing", detail)
    said = decode(request.body, Refresh)
    salt = bytes.fromhex(context.access.roster.access.salt)
    answer, tokens = _make(context, worker_id, "")
    operation = partial(
        exchange,
        refresh_hash=hash_token(said.refresh_token, salt),
        worker_id=worker_id,
        fresh=tokens,
        roster=context.access.roster,
    )
    fault = await context.storage.commit(operation)
    if fault is not None:
        await context.slow_down(request.address)
        raise unauthorized(f"Invalid refresh token ({fault})")
    return answer


def _make(context: Context, worker_id: str, credential: str) -> tuple[Issued, list[IssuedToken]]:
    """The answer that tells a pair of fresh tokens, and what is remembered of them."""
    salt = bytes.fromhex(context.access.roster.access.salt)
    lives = {
        TokenKind.ACCESS: context.security.access_token_seconds,
        TokenKind.REFRESH: max(_REFRESH_SECONDS, context.security.access_token_seconds),
    }
    texts = {kind: secrets.token_urlsafe(_TOKEN_BYTES) for kind in lives}
    now = context.storage.now()
    tokens = [
        IssuedToken(
            hash=hash_token(texts[kind], salt),
            kind=kind,
            worker_id=worker_id,
            credential=credential,
            expires_at=now + seconds,
        )
        for kind, seconds in lives.items()
    ]
    answer: Issued = {
        "access_token": texts[TokenKind.ACCESS],
        "refresh_token": texts[TokenKind.REFRESH],
        "expires_in": int(context.security.access_token_seconds),
        "worker_id": worker_id,
    }
    return answer, tokens
