"""The options of `avtomatika job`."""

from avtomatika_trio._core.job import JobStatus
from avtomatika_trio.cli._narrowing import point_in_time
from avtomatika_trio.cli._parser_parts import (
    Commands,
    add,
    add_connection,
    add_labels,
    add_output,
    add_timeout,
    add_verbs,
    whole,
)


def add_job(commands: Commands) -> None:
    """`avtomatika job` and its verbs."""
    verbs = add_verbs(commands, "job", "submit and follow jobs")
    _add_submit(verbs)
    _add_verbs_of_one_job(verbs)
    _add_list(verbs)
    for parser in verbs.choices.values():
        add_connection(parser)
        add_output(parser, "table", "json", "jsonl")


def _add_submit(verbs: Commands) -> None:
    submit = add(verbs, "submit", "submit a job; prints its id")
    submit.add_argument("blueprint", metavar="BLUEPRINT", help="the blueprint's name")
    submit.add_argument(
        "--data",
        metavar="JSON|@FILE|-",
        default="{}",
        help="the initial data, a JSON object: as text, from a file or from stdin",
    )
    add_labels(submit, "mark the job with it; give it several times for several")
    submit.add_argument(
        "--idempotency-key",
        metavar="KEY",
        help="submit once, however often this is said with the same key; prints the same id",
    )
    submit.add_argument("--wait", action="store_true", help="wait for its end; exit with that")
    add_timeout(submit)


def _add_verbs_of_one_job(verbs: Commands) -> None:
    for name, text in (
        ("get", "show a job"),
        ("history", "show what has happened to a job"),
        ("watch", "follow a job until it ends; exit with its outcome"),
        ("cancel", "cancel a job"),
    ):
        verb = add(verbs, name, text)
        verb.add_argument("job_id", metavar="ID", help="the job's id")
        if name == "watch":
            add_timeout(verb)
        elif name == "cancel":
            verb.add_argument("--reason", metavar="TEXT", help="why; kept in the history")


def _add_list(verbs: Commands) -> None:
    listing = add(verbs, "list", "list jobs, newest first")
    statuses = [status.value for status in JobStatus]
    listing.add_argument(
        "--status",
        choices=statuses,
        metavar="STATUS",
        help=f"only with this status: {', '.join(statuses)}",
    )
    listing.add_argument("--blueprint", metavar="NAME", help="only of this blueprint")
    add_labels(listing, "only with this label; give it several times for all of several")
    for side in ("after", "before"):
        listing.add_argument(
            f"--created-{side}",
            type=point_in_time,
            metavar="TIME",
            help=f"only submitted {side} this, such as 2026-01-31T12:00:00Z or 2026-01-31",
        )
    listing.add_argument(
        "--limit", type=whole, default=20, metavar="N", help="at most so many (default: 20)"
    )
