"""Names of a job's files: where they are among all files, and which names there cannot be.

Everything of a job is at `jobs/<job id>/`; a name is the rest of the key.  What workers have
put there begins with the id of their attempt.
"""

from avtomatika_trio.blobs import Location
from avtomatika_trio.blobs._names import fault_of
from avtomatika_trio.errors import InvalidMessage, Problem

ALL_JOBS = "jobs/"
"""Where the files of all jobs are."""


def folder_of(bucket: str, job_id: str) -> Location:
    """Where everything of the job is."""
    return Location(bucket, f"{ALL_JOBS}{job_id}/")


def check_name(name: str, path: str) -> None:
    """Refuse a request with a name that there cannot be.

    Args:
        name: As it was asked for.
        path: How a request calls it, such as `?filename`.

    Raises:
        InvalidMessage: it is such a name.
    """
    fault = fault_of(name)
    if fault is not None:
        shown = ascii(name if len(name) <= 100 else name[:100] + "...")
        raise InvalidMessage((Problem(path, f"{shown} {fault}"),))
