"""The settings of TLS: whether they fit together, and whether their files can be used."""

from collections.abc import Iterator

from avtomatika_trio._config import OrchestratorSettings
from avtomatika_trio._config._pem import faults_of_tls
from avtomatika_trio.errors import ConfigError


def check_tls(settings: OrchestratorSettings) -> None:
    """Make sure that a server of *settings* can speak TLS if it shall, and shall if it looks so.

    Raises:
        ConfigError: with every problem.
    """
    if settings.tls_enabled:
        problems = tuple(_problems(settings))
    else:
        problems = tuple(
            f"{name} is set, but TLS_ENABLED is not; set TLS_ENABLED, or unset {name}"
            for name in _given(settings)
        )
    if settings.worker_auth_mode == "mtls-only" and not (settings.tls_enabled and settings.tls_ca):
        lacks = "WORKER_AUTH_MODE=mtls-only lets no worker in without TLS_ENABLED and TLS_CA_PATH"
        problems = (*problems, f"{lacks}; set them, or WORKER_AUTH_MODE=mixed")
    if problems:
        raise ConfigError(problems)


def refuse_tls(settings: OrchestratorSettings) -> None:
    """Make sure that nobody expects TLS of an orchestrator that another server listens for.

    Raises:
        ConfigError: *settings* have something about TLS.
    """
    names = ["TLS_ENABLED"] if settings.tls_enabled else []
    names += _given(settings)
    if names:
        raise ConfigError((f"TLS is the business of the server there; unset {', '.join(names)}",))


def _given(settings: OrchestratorSettings) -> list[str]:
    """What is set besides TLS_ENABLED."""
    values = {
        "TLS_CERT_PATH": settings.tls_cert,
        "TLS_KEY_PATH": settings.tls_key,
        "TLS_CA_PATH": settings.tls_ca,
        "TLS_REQUIRE_CLIENT_CERT": settings.tls_require_client_cert,
    }
    return [name for name, value in values.items() if value]


def _problems(settings: OrchestratorSettings) -> Iterator[str]:
    certificate, key, authorities = settings.tls_cert, settings.tls_key, settings.tls_ca
    if certificate is None:
        yield "TLS_ENABLED is set without TLS_CERT_PATH; give the certificate of this server"
    if key is None:
        yield "TLS_ENABLED is set without TLS_KEY_PATH; give the key of the certificate"
    if settings.tls_require_client_cert and authorities is None:
        yield (
            "TLS_REQUIRE_CLIENT_CERT is set without TLS_CA_PATH;"
            " give the authority that signs the certificates of clients"
        )
    yield from faults_of_tls(certificate, key, authorities)
