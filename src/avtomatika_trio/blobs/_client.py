"""The boto3 client, and what its errors mean."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionError as NotConnected,
    HTTPClientError,
    IncompleteReadError,
    ParamValidationError,
    ResponseStreamingError,
)
from urllib3.exceptions import HTTPError

from avtomatika_trio._config import S3Access
from avtomatika_trio.blobs._connections import POOLS, SILENT_SECONDS
from avtomatika_trio.blobs._patience import Passing
from avtomatika_trio.errors import (
    AvtomatikaError,
    BlobChanged,
    BlobDenied,
    BlobError,
    BlobMissing,
    BlobRefused,
)

logger = logging.getLogger(__name__)

#: For each address of the server; a connection that takes longer is tried anew.
_CONNECT_SECONDS = 5.0

#: Codes and statuses of answers that may be different the next time.
_PASSING_CODES = frozenset(
    {
        "BadDigest",
        "IncompleteBody",
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "RequestTimeTooSkewed",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
    }
)
_PASSING_STATUSES = frozenset({408, 425, 429})
_NOT_IMPLEMENTED = 501

_DENIED_STATUSES = frozenset({401, 403})
_MISSING_CODES = frozenset({"404", "NoSuchKey", "NotFound", "NoSuchBucket"})
_CHANGED_STATUSES = frozenset({412, 416})


class UploadGone(Exception):
    """An upload of several parts that somebody has aborted."""


def create_client(access: S3Access, most_connections: int) -> Any:
    """A client that may be shared by threads; making it takes 0.1 s and no network."""
    token = access.session_token
    config = Config(
        signature_version="s3v4",
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=SILENT_SECONDS,
        max_pool_connections=most_connections,
        tcp_keepalive=True,
        # Ours: one that waits in a thread could not be cancelled.
        retries={"total_max_attempts": 1},
        # Checksums are given where there is one; boto3 would read every body twice.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={
            "addressing_style": "auto" if access.endpoint is None else "path",
            "payload_signing_enabled": False,
        },
    )
    # At DEBUG it logs whole requests, session tokens among them.
    logging.getLogger("botocore").setLevel(logging.INFO)
    # Whatever is configured for other programs does not matter: what is needed is given.
    nothing = (None, None, os.devnull, None)
    unused: dict[str, Any] = {"profile": (None, None, None, None)}
    unused |= {"config_file": nothing, "credentials_file": nothing}
    plain = botocore.session.Session(session_vars=unused)
    client = boto3.session.Session(botocore_session=plain).client(
        "s3",
        endpoint_url=access.endpoint,
        aws_access_key_id=access.access_key.reveal(),
        aws_secret_access_key=access.secret_key.reveal(),
        aws_session_token=None if token is None else token.reveal(),
        region_name=access.region,
        config=config,
    )
    # There is no public way to give botocore other connections; tests/blobs notices if this
    # one is gone.  The managers of direct and of proxied connections share this dict.
    client._endpoint.http_session._pool_classes_by_scheme.update(POOLS)  # noqa: SLF001
    return client


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Make of what boto3 raises what callers are told.

    Raises:
        BlobError: one that stays.
        Passing: one that may pass.
        UploadGone: the upload that was named is not there.
    """
    try:
        yield
    except ClientError as exc:
        raise _of_answer(uri, exc) from exc
    except IncompleteReadError as exc:
        raise Passing(str(exc)) from exc
    except (
        NotConnected,  # which is no HTTPClientError
        HTTPClientError,
        ResponseStreamingError,
        HTTPError,
        ConnectionError,
    ) as exc:
        raise Passing(_first_line(exc)) from exc
    except ParamValidationError as exc:
        raise BlobRefused(uri, _first_line(exc)) from exc
    except (AvtomatikaError, Passing, UploadGone, OSError):
        raise
    except Exception as exc:  # whatever it answers: it is no S3 server, or not ours
        logger.warning("%s: an answer that makes no sense", uri, exc_info=exc)
        reason = f"the server's answer makes no sense ({type(exc).__name__}: {_first_line(exc)})"
        raise BlobDenied(uri, reason) from exc


def _of_answer(uri: str, exc: ClientError) -> BlobError | Passing | UploadGone:
    answer = exc.response
    code = str(answer.get("Error", {}).get("Code", ""))
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    said = answer.get("Error", {}).get("Message") or code
    if code == "NoSuchUpload":
        return UploadGone(said)
    fails = status >= 500 and status != _NOT_IMPLEMENTED
    if fails or code in _PASSING_CODES or status in _PASSING_STATUSES:
        return Passing(f"{status} {code}: {said}")
    if code in _MISSING_CODES or status == 404:
        what = "bucket" if code == "NoSuchBucket" else "file"
        return BlobMissing(uri, f"there is no such {what}")
    if status in _DENIED_STATUSES:
        return BlobDenied(uri, f"the S3 server does not allow it ({code}: {said})")
    if status in _CHANGED_STATUSES:
        return BlobChanged(uri, "it was changed while it was read")
    return BlobDenied(uri, f"the S3 server refused ({status} {code}: {said})")


def _first_line(exc: BaseException) -> str:
    return (str(exc) or type(exc).__name__).splitlines()[0]
