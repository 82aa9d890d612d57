"""What clients ask about files of a job: which there are, and where to put one.

The files themselves pass through `_file_streams`, or not through here at all.
"""

from http import HTTPStatus
from urllib.parse import quote

from quart import request

from avtomatika_trio._core.files import LONGEST_URL_SECONDS
from avtomatika_trio.blobs import Blob, Blobs
from avtomatika_trio.errors import InvalidMessage, Problem
from avtomatika_trio.orchestrator import _answer_shapes as shapes
from avtomatika_trio.orchestrator._access import Client
from avtomatika_trio.orchestrator._answers import Answer, json_answer, rfc3339
from avtomatika_trio.orchestrator._client_request import owned_job, still_runs, whole_number
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._file_names import check_name, folder_of
from avtomatika_trio.orchestrator._http import HttpProblem
from avtomatika_trio.orchestrator._registry import PREFIXES

_URL_SECONDS = 3600


def blobs_of(context: Context) -> Blobs:
    """Where the files of jobs are.

    Raises:
        HttpProblem: 501, nowhere.
    """
    if context.blobs is None:
        detail = "this orchestrator keeps no files"
        raise HttpProblem(HTTPStatus.NOT_IMPLEMENTED, "files_off", detail)
    return context.blobs


class FileRoutes:
    """One method per route; each is given the client first."""

    def __init__(self, context: Context) -> None:
        self.context = context

    async def list_files(self, client: Client, job_id: str) -> Answer:
        """`GET /jobs/{id}/files`: every file of the job, by name."""
        prefix = request.args.get("prefix", "")
        if prefix:
            check_name(prefix.removesuffix("/"), "?prefix")
        job = await owned_job(self.context, client, job_id)
        blobs = blobs_of(self.context)
        folder = folder_of(blobs.bucket, job.id)
        found = await blobs.list(folder.at(folder.key + prefix))
        answer: shapes.FileList = {"files": [_shown(blob, folder.key) for blob in found]}
        return json_answer(answer)

    async def upload_url(self, client: Client, job_id: str) -> Answer:
        """`GET /jobs/{id}/files/upload`: where a file can be put, without a token if possible."""
        name = request.args.get("filename", "")
        check_name(name, "?filename")
        seconds = _expires_in()
        job = still_runs(await owned_job(self.context, client, job_id))
        blobs = blobs_of(self.context)
        folder = folder_of(blobs.bucket, job.id)
        at = folder.at(folder.key + name)
        url = await blobs.presigned(at, method="PUT", seconds=seconds)
        if url is None:
            url = f"{PREFIXES[0]}/jobs/{job.id}/files/content/{quote(name)}"
        answer: shapes.UploadUrl = {
            "url": url,
            "method": "PUT",
            "expires_in": seconds,
            "uri": at.uri,
        }
        return json_answer(answer)


def _expires_in() -> int:
    seconds = whole_number("expires_in", _URL_SECONDS, least=1)
    if seconds > LONGEST_URL_SECONDS:
        fault = f"must be at most {LONGEST_URL_SECONDS} seconds, not {seconds}"
        raise InvalidMessage((Problem("?expires_in", fault),))
    return seconds


def _shown(blob: Blob, prefix: str) -> shapes.FileShown:
    return {
        "name": blob.location.key.removeprefix(prefix),
        "size": blob.size,
        "etag": blob.etag,
        "modified_at": rfc3339(blob.modified_at),
        "uri": blob.uri,
    }
