"""The record of a submission that has a key."""

import attrs


@attrs.frozen(kw_only=True)
class Submission:
    """What was made of a request with an `Idempotency-Key`."""

    id: str
    """A hash of client and key."""
    client: str
    request: str
    """A hash of what was asked for."""
    job_ids: tuple[str, ...]
    expires_at: float = 0.0
    """From then on the key is as good as new."""
