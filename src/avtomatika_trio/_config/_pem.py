"""Files of certificates and keys (PEM): what is wrong with them, in words.

OpenSSL says neither which file it could not use nor why; and of a key with a password it asks
for the password on the terminal, where nobody answers.  So files are tried here, before anything
is opened with them.
"""

import ssl
from collections.abc import Iterator
from pathlib import Path

import attrs

_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_KEY = b"PRIVATE KEY-----"

_HAS_NO_CERTIFICATE = "holds no certificate in PEM form; give one that does"


@attrs.frozen
class PemFile:
    """A file, and the name of the setting or argument that gives it."""

    name: str
    path: Path

    def __str__(self) -> str:
        return f"{self.name}: {self.path}"


def faults_of_tls(
    certificate: Path | None, key: Path | None, authorities: Path | None
) -> Iterator[str]:
    """What is wrong with the files that `TLS_CERT_PATH`, `TLS_KEY_PATH` and `TLS_CA_PATH` name."""
    faults: list[str | None] = []
    if certificate is not None and key is not None:
        faults.append(
            fault_of_chain(PemFile("TLS_CERT_PATH", certificate), PemFile("TLS_KEY_PATH", key))
        )
    if authorities is not None:
        faults.append(fault_of_authorities(PemFile("TLS_CA_PATH", authorities)))
    yield from (fault for fault in faults if fault is not None)


def fault_of_authorities(file: PemFile) -> str | None:
    """Why *file* cannot tell whom to trust; None = it can."""
    fault = _fault_of(file, _CERTIFICATE, _HAS_NO_CERTIFICATE)
    if fault is not None:
        return fault
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file.path)
    except (OSError, ValueError) as exc:
        return f"{file} holds a certificate that cannot be read ({_told(exc)}); give another"
    return None


def fault_of_chain(certificate: PemFile, key: PemFile) -> str | None:
    """Why nobody can prove to be who *certificate* says by *key*; None = one can."""
    fault = _fault_of(certificate, _CERTIFICATE, _HAS_NO_CERTIFICATE) or _fault_of(
        key, _KEY, "holds no private key in PEM form; give the one of the certificate"
    )
    if fault is not None:
        return fault
    asked: list[bool] = []

    def password() -> str:
        asked.append(True)
        return ""

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(
            certificate.path, key.path, password
        )
    except (OSError, ValueError) as exc:
        if asked:
            return f"{key} has a password; write it without one (openssl pkey -in OLD -out NEW)"
        if getattr(exc, "reason", None) == "KEY_VALUES_MISMATCH":
            return f"{key} is not the key of {certificate}; give the two that belong together"
        return f"{certificate} and {key} cannot be used ({_told(exc)}); give others"
    return None


def _fault_of(file: PemFile, mark: bytes, otherwise: str) -> str | None:
    try:
        content = file.path.read_bytes()
    except OSError as exc:
        return f"{file} cannot be read ({_told(exc)}); give a file that can"
    return None if mark in content else f"{file} {otherwise}"


def _told(exc: Exception) -> str:
    reason = exc.reason if isinstance(exc, ssl.SSLError) else getattr(exc, "strerror", None)
    return str(reason or exc)
