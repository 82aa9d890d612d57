"""Changes of who may talk, as another orchestrator of the same storage would make them."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from avtomatika_trio._core.access import AuditRow, ClientCredential, WorkerCredential
from avtomatika_trio._core.admission import Applied, apply, open_access
from avtomatika_trio._core.ledger import Ledger
from avtomatika_trio._wire.token_hashes import hash_token
from avtomatika_trio.storage import Storage

ROW = AuditRow(at=0, who="test", action="test", origin="")


async def let_in(
    storage: Storage,
    workers: Mapping[str, Sequence[str]] | None = None,
    clients: Mapping[str, Sequence[str]] | None = None,
    **fields: Any,
) -> Applied:
    """Let in just these, by name and tokens; *fields* go into each section."""

    def operation(ledger: Ledger) -> Applied:
        salt = bytes.fromhex(open_access(ledger, "5a" * 16).salt)
        return apply(
            ledger,
            _sections(WorkerCredential, workers, salt, fields),
            _sections(ClientCredential, clients, salt, fields),
            ROW,
        )

    return await storage.commit(operation)


def _sections(kind: Any, named: Any, salt: bytes, fields: dict[str, Any]) -> Any:
    if named is None:
        return None
    known = {field.name for field in attrs.fields(kind)}
    wanted = {name: value for name, value in fields.items() if name in known}
    return tuple(
        kind(name=name, hashes=tuple(hash_token(it, salt) for it in tokens), **wanted)
        for name, tokens in named.items()
    )
