"""The routes of clients that are about files of jobs."""

from typing import Annotated, Any

from msgspec import Meta

from avtomatika_trio._core.access import Role
from avtomatika_trio._core.files import LONGEST_URL_SECONDS
from avtomatika_trio.orchestrator import _answer_shapes as shapes
from avtomatika_trio.orchestrator._route import Answered, Body, Caller, Parameter, Route

_FILES = "Files of jobs"


def client_route(id_: str, method: str, path: str, role: Role, **more: Any) -> Route:
    """A route of clients; *more* is the rest of its declaration."""
    return Route(id=id_, method=method, path=path, caller=Caller.CLIENT, role=role, **more)


JOB_ID = Parameter(name="job_id", where="path", text="The id of a job.", example="JOB_ID")

_FILE = Parameter(
    name="name",
    where="path",
    text="The name of the file; it may have folders, as in `frames/0001.png`.",
    example="frames/0001.png",
    has_slashes=True,
)

_OF_FILES = (
    *("no_such_route", "job_not_found", "files_off", "files_refused", "files_unavailable"),
    "disk_full",
)

PUT_FILE = client_route(
    *("put_file", "PUT", "/jobs/{job_id}/files/content/{name}", Role.SUBMITTER),
    group=_FILES,
    summary="Keep the body as a file of a job",
    parameters=(JOB_ID, _FILE),
    body=Body(content="application/octet-stream"),
    answers=(Answered(text="It is kept.", kind=shapes.Uploaded),),
    problems=(*_OF_FILES, "job_is_final", "file_too_large"),
)

GET_FILE = client_route(
    *("get_file", "GET", "/jobs/{job_id}/files/download/{name}", Role.VIEWER),
    group=_FILES,
    summary="Get a file of a job",
    parameters=(JOB_ID, _FILE),
    answers=(
        Answered(
            text="The file.",
            content="application/octet-stream",
            headers={"Content-Disposition": "The name of the file."},
        ),
        Answered(
            status=302,
            text="It is on S3.",
            content=None,
            headers={"Location": "A URL that needs no token, for a minute."},
        ),
    ),
    problems=(*_OF_FILES, "file_not_found"),
)

FILE_ROUTES = (
    client_route(
        *("list_files", "GET", "/jobs/{job_id}/files", Role.VIEWER),
        group=_FILES,
        summary="The files of a job, by name",
        parameters=(
            JOB_ID,
            Parameter(name="prefix", text="Only names that begin with it.", example="frames/"),
        ),
        answers=(Answered(text="All of them.", kind=shapes.FileList),),
        problems=_OF_FILES,
    ),
    client_route(
        *("upload_url", "GET", "/jobs/{job_id}/files/upload", Role.SUBMITTER),
        group=_FILES,
        summary="Where to put a file",
        text="With S3 the URL needs no token, and the file does not pass through here.",
        parameters=(
            JOB_ID,
            Parameter(
                name="filename",
                kind=Annotated[str, Meta(min_length=1, max_length=512)],
                text="The name; it may have folders.",
                is_required=True,
                example="frames/0001.png",
            ),
            Parameter(
                name="expires_in",
                kind=Annotated[int, Meta(ge=1, le=LONGEST_URL_SECONDS)],
                text="For how many seconds the URL is valid.",
            ),
        ),
        answers=(Answered(text="Send the file there.", kind=shapes.UploadUrl),),
        problems=(*_OF_FILES, "job_is_final"),
    ),
    PUT_FILE,
    GET_FILE,
)
