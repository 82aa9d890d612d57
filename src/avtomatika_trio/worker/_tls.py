"""What a worker trusts, and by which certificate it is known itself."""

import ssl
from collections.abc import Iterator

from avtomatika_trio._config import WorkerSettings
from avtomatika_trio._config._pem import faults_of_tls
from avtomatika_trio.errors import ConfigError


def create_tls(settings: WorkerSettings) -> ssl.SSLContext | None:
    """For every connection of a worker with *settings*; None = as everybody's.

    Raises:
        ConfigError: with every problem of the files.
    """
    problems = tuple(_problems(settings))
    if problems:
        raise ConfigError(problems)
    if settings.tls_ca is None and settings.tls_cert is None:
        return None
    # With a file, that one's authorities are trusted and no others.
    context = ssl.create_default_context(
        cafile=None if settings.tls_ca is None else str(settings.tls_ca)
    )
    if settings.tls_cert is not None and settings.tls_key is not None:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    return context


def _problems(settings: WorkerSettings) -> Iterator[str]:
    certificate, key, authorities = settings.tls_cert, settings.tls_key, settings.tls_ca
    if (certificate is None) != (key is None):
        yield "TLS_CERT_PATH and TLS_KEY_PATH go together; set both, or neither"
    yield from faults_of_tls(certificate, key, authorities)
