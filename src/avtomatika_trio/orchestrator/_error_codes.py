"""The codes of problems: with which status each of them comes, and when."""

CODES: dict[str, tuple[int, str]] = {
    "invalid_message": (
        400,
        "the body, the query or the name of a file is malformed; `errors` has each place",
    ),
    "bad_host": (400, "the header `Host` names no host"),
    "credentials_refused": (400, "a file of credentials is malformed, and nothing has changed"),
    "worker_id_missing": (400, "a refresh of a token without `X-Worker-ID`"),
    "token_missing": (401, "a client's request without a token"),
    "token_unknown": (401, "a client's request with another token"),
    "unauthorized": (
        403,
        "a worker's request without a token, with another, or without a worker id",
    ),
    "role_missing": (403, "the client does not have the role that this needs"),
    "signature_refused": (
        403,
        "a worker's message is not signed, wrongly signed, too old, or a replay",
    ),
    "foreign_worker_id": (403, "a worker that speaks for another one"),
    "no_such_route": (404, "there is nothing at this path"),
    "job_not_found": (404, "no such job (any more), or somebody else's"),
    "blueprint_not_found": (404, "it is not served here"),
    "worker_not_found": (404, "the worker has to register, again"),
    "file_not_found": (404, "the job has no file of this name"),
    "method_not_allowed": (405, "`Allow` has those that are"),
    "job_is_final": (409, "it has ended"),
    "idempotency_key_in_use": (
        409,
        "the first request with this `Idempotency-Key` is not answered yet; see `Retry-After`",
    ),
    "body_too_large": (413, "more than `MAX_BODY_BYTES`"),
    "file_too_large": (413, "more than `MAX_FILE_BYTES`"),
    "body_packed": (415, "the body has a `Content-Encoding`"),
    "idempotency_key_reused": (
        422,
        "the `Idempotency-Key` came with another body or blueprint before",
    ),
    "quota_exceeded": (
        429,
        "`monthly_attempts` are used; `Retry-After` ends with the month",
    ),
    "rate_limited": (429, "too many requests of this kind; `Retry-After` says when"),
    "too_many_wrong_tokens": (429, "from this address"),
    "internal_error": (500, "a fault of the orchestrator; the log has the traceback"),
    "files_off": (501, "this orchestrator keeps no files"),
    "files_refused": (502, "S3 does not allow it, or refused; the log has the reason"),
    "draining": (503, "it is shutting down"),
    "files_unavailable": (
        503,
        "S3 cannot be reached, or the file was changed meanwhile; try again",
    ),
    "not_running": (503, "inside another server: the loops do not run"),
    "storage_unavailable": (503, "try again; `Retry-After` says when"),
    "disk_full": (507, "the disk of the orchestrator is full, or fails"),
}
"""Each code, with its status and when it comes."""

EVERYWHERE = ("invalid_message", "bad_host", "body_too_large", "internal_error", "not_running")
"""What any request may be answered with."""

OF_CLIENTS = (
    "token_missing",
    "token_unknown",
    "role_missing",
    "rate_limited",
    "too_many_wrong_tokens",
    "storage_unavailable",
)
"""What any request of a client may be answered with."""

OF_WORKERS = (
    "unauthorized",
    "foreign_worker_id",
    "signature_refused",
    "rate_limited",
    "too_many_wrong_tokens",
    "storage_unavailable",
)
"""What any request of a worker may be answered with."""
