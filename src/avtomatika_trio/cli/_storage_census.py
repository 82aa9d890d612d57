"""What is in a storage, counted, and whether two of them hold the same."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio._core.task import Attempt, AttemptStatus, Task
from avtomatika_trio.storage._records import (
    StorageFacts,
    StoredRecord,
    encode_record,
    kind_of,
)

_DIGESTS = 2**256


@attrs.define
class Census:
    """Counts records of all kinds as they pass."""

    facts: StorageFacts | None = None
    kinds: Counter[str] = attrs.field(factory=Counter)
    jobs: Counter[JobStatus] = attrs.field(factory=Counter)
    open_tasks: int = 0
    running: int = 0
    digest: int = 0
    """Of the digests of all records but the facts; so their order does not matter."""

    def count(self, records: Iterable[StoredRecord]) -> None:
        """Take note of *records*."""
        for record in records:
            match record:
                case StorageFacts():
                    self.facts = record
                    continue
                case Job():
                    self.jobs[record.status] += 1
                case Task():
                    self.open_tasks += record.status.is_open
                case Attempt():
                    self.running += record.status is AttemptStatus.LEASED
                case _:
                    pass
            self.kinds[kind_of(record)] += 1
            digest = hashlib.sha256(encode_record(record)).digest()
            self.digest = (self.digest + int.from_bytes(digest)) % _DIGESTS

    @property
    def records(self) -> int:
        """How many there are, but for the facts."""
        return self.kinds.total()

    def is_same_as(self, other: "Census") -> bool:
        """Whether both have counted the same records, to the byte, and the same cluster id."""
        ids = [None if it.facts is None else it.facts.cluster_id for it in (self, other)]
        return ids[0] == ids[1] and (self.kinds, self.digest) == (other.kinds, other.digest)

    def as_json(self) -> Mapping[str, Any]:
        """For `-o json`."""
        assert self.facts is not None
        return {
            "schema": self.facts.schema,
            "cluster_id": self.facts.cluster_id,
            "time": self.facts.latest,
            "jobs": {status.value: self.jobs[status] for status in JobStatus if self.jobs[status]},
            "open_tasks": self.open_tasks,
            "running_attempts": self.running,
            "instances": self.kinds["instance"],
            "records": dict(self.kinds),
        }
