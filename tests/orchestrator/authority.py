"""A private authority, and files of what it signs."""

from pathlib import Path
from typing import Any

import attrs
import trustme
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from tests.orchestrator.serving import answer, speak_lifespan

from avtomatika_trio.orchestrator._certificates import names_of
from avtomatika_trio.orchestrator._connection import CLIENT_CERTIFICATE


@attrs.frozen
class Signed:
    """A certificate and its key, in files."""

    cert: str
    key: str


class Authority:
    """Signs; all of its files are in *folder*."""

    def __init__(self, folder: Path, name: str = "ours") -> None:
        self._ca = trustme.CA()
        self._folder = folder
        self.name = name
        self.file = str(folder / f"{name}.pem")
        self._ca.cert_pem.write_to_path(self.file)

    def sign(self, *names: str, common_name: str | None = None) -> Signed:
        """A new key, and a certificate that it belongs to *names*."""
        issued = self._ca.issue_cert(*names, common_name=common_name)
        stem = f"{self.name}-{'-'.join(names) or common_name}"
        cert, key = self._folder / f"{stem}.pem", self._folder / f"{stem}.key"
        issued.private_key_pem.write_to_path(str(key))
        for blob in issued.cert_chain_pems:
            blob.write_to_path(str(cert), append=True)
        return Signed(cert=str(cert), key=str(key))

    def server(self) -> dict[str, str]:
        """What a server of 127.0.0.1 shows, as fields of `ServerSettings`."""
        signed = self.sign("127.0.0.1", "localhost")
        return {"certfile": signed.cert, "keyfile": signed.key}


async def tell_names(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """An app that answers with whom the client's certificate speaks for; `-` without one."""
    if scope["type"] == "lifespan":
        await speak_lifespan(receive, send)
        return
    state: Any = scope["state"]
    certificate = state.get(CLIENT_CERTIFICATE)
    names = ",".join(names_of(certificate)) if CLIENT_CERTIFICATE in state else "-"
    await answer(send, names.encode())
