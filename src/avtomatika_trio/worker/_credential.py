"""What a worker shows to one orchestrator, and whether it signs what it says there."""

import attrs

from avtomatika_trio._config import Secret


@attrs.define
class Credential:
    """Read at every request, by the loop and by the thread that beats; assignments are atomic."""

    own: Secret | None
    """The worker's token for this orchestrator."""
    issued: Secret | None = attrs.field(default=None, init=False)
    """A short-lived token, shown in its place while there is one."""
    signs: bool = attrs.field(default=False, init=False)
    """Whether every message is to be signed."""

    @property
    def token(self) -> Secret | None:
        """What is shown now."""
        return self.issued or self.own

    def refused(self, token: str | None) -> None:
        """*token* was shown and is not good (any more): fall back on the worker's own."""
        issued = self.issued
        if issued is not None and issued.reveal() == token:
            self.issued = None
