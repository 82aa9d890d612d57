"""Submit, follow and cancel jobs over HTTP.

    with Client("http://127.0.0.1:8080", token) as client:
        job_id = client.submit("resize", {"width": 640})
        job = client.wait(job_id)
        print(job.status, job.result_or_raise())

`AsyncClient` has the same methods for Trio.
"""

from avtomatika_trio.client._records import (
    AttemptInfo as AttemptInfo,
    BlueprintInfo as BlueprintInfo,
    HistoryEvent as HistoryEvent,
    InstanceInfo as InstanceInfo,
    Job as Job,
    JobFault as JobFault,
    Progress as Progress,
    TaskInfo as TaskInfo,
    WorkerInfo as WorkerInfo,
)
from avtomatika_trio.client._sync import Client as Client
from avtomatika_trio.client._trio import AsyncClient as AsyncClient

__all__ = [
    "AsyncClient",
    "AttemptInfo",
    "BlueprintInfo",
    "Client",
    "HistoryEvent",
    "InstanceInfo",
    "Job",
    "JobFault",
    "Progress",
    "TaskInfo",
    "WorkerInfo",
]
