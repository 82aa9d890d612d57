"""Jobs are found by their labels and by their age."""

from collections.abc import Mapping

import attrs

from avtomatika_trio._core.job import JobStatus
from avtomatika_trio.storage._base import JobQuery, Storage
from avtomatika_trio.testing._samples import START, a_job, put
from avtomatika_trio.testing._suite import and_break, broken

_FINISHED = JobStatus.FINISHED


async def _listed(storage: Storage, query: JobQuery) -> list[str]:
    return [job.id for job in await storage.jobs(query)]


def _labelled(**labels: str) -> JobQuery:
    return JobQuery(labels=labels)


async def _fill(storage: Storage) -> None:
    """Jobs `j00` to `j11`, a second apart: each third red, each second big, of `c` and `d`."""
    for at in range(12):
        labels: Mapping[str, str] = {
            **({"colour": "red"} if at % 3 == 0 else {"colour": "blue"}),
            **({"size": "big"} if at % 2 == 0 else {}),
        }
        job = a_job(
            f"j{at:02}",
            created_at=START + at,
            labels=labels,
            client="c" if at < 8 else "d",
            blueprint="b" if at < 4 else "x",
            status=_FINISHED if at % 4 == 0 else JobStatus.WAITING_FOR_WORKER,
        )
        await storage.commit(put(job))


class FilterPromises:
    """`Storage.jobs` finds by label and by age, also together with all else."""

    async def test_jobs_are_found_by_a_label(self, storage: Storage) -> None:
        await _fill(storage)
        assert await _listed(storage, _labelled(colour="red")) == ["j09", "j06", "j03", "j00"]
        assert await _listed(storage, _labelled(colour="green")) == []
        assert await _listed(storage, _labelled(colou="rred")) == []
        assert await _listed(storage, _labelled(red="colour")) == []

    async def test_all_labels_must_be_there(self, storage: Storage) -> None:
        await _fill(storage)
        assert await _listed(storage, _labelled(colour="red", size="big")) == ["j06", "j00"]
        assert await _listed(storage, _labelled(size="big", colour="red")) == ["j06", "j00"]
        assert await _listed(storage, _labelled(size="big", shape="round")) == []

    async def test_a_label_and_anything_else(self, storage: Storage) -> None:
        await _fill(storage)
        red = _labelled(colour="red")
        assert await _listed(storage, attrs.evolve(red, client="c")) == ["j06", "j03", "j00"]
        assert await _listed(storage, attrs.evolve(red, client="nobody")) == []
        assert await _listed(storage, attrs.evolve(red, blueprint="x")) == ["j09", "j06"]
        finished = attrs.evolve(red, statuses=frozenset({_FINISHED}))
        assert await _listed(storage, finished) == ["j00"]
        both = attrs.evolve(red, statuses=frozenset({_FINISHED, JobStatus.WAITING_FOR_WORKER}))
        assert await _listed(storage, both) == ["j09", "j06", "j03", "j00"]

    async def test_a_listing_by_label_goes_on(self, storage: Storage) -> None:
        names = [f"j{at:02}" for at in range(25)]
        jobs = [
            a_job(name, created_at=START + at // 10, labels={"n": str(at % 2)})
            for at, name in enumerate(names)
        ]
        await storage.commit(put(*jobs))
        found: list[str] = []
        query = JobQuery(labels={"n": "0"}, limit=4)
        while page := await storage.jobs(query):
            found += [job.id for job in page]
            query = attrs.evolve(query, before=(page[-1].created_at, page[-1].id))
        assert found == names[::-2]

    async def test_jobs_are_found_by_age(self, storage: Storage) -> None:
        await _fill(storage)
        later = JobQuery(created_after=START + 9)
        assert await _listed(storage, later) == ["j11", "j10", "j09"]
        earlier = JobQuery(created_before=START + 2)
        assert await _listed(storage, earlier) == ["j01", "j00"]
        between = JobQuery(created_after=START + 3, created_before=START + 6)
        assert await _listed(storage, between) == ["j05", "j04", "j03"]
        assert await _listed(storage, attrs.evolve(between, limit=2)) == ["j05", "j04"]
        page_two = attrs.evolve(between, before=(START + 4, "j04"))
        assert await _listed(storage, page_two) == ["j03"]
        behind = attrs.evolve(between, before=(START + 8, "j08"))
        assert await _listed(storage, behind) == ["j05", "j04", "j03"]
        none = JobQuery(created_after=START + 6, created_before=START + 3)
        assert await _listed(storage, none) == []

    async def test_age_and_anything_else(self, storage: Storage) -> None:
        await _fill(storage)
        between = JobQuery(created_after=START + 3, created_before=START + 9)
        finished = attrs.evolve(between, statuses=frozenset({_FINISHED}))
        assert await _listed(storage, finished) == ["j08", "j04"]
        red = attrs.evolve(between, labels={"colour": "red"})
        assert await _listed(storage, red) == ["j06", "j03"]
        assert await _listed(storage, attrs.evolve(red, client="c", limit=1)) == ["j06"]

    async def test_a_job_is_found_by_its_labels_until_it_is_forgotten(
        self, storage: Storage
    ) -> None:
        await _fill(storage)
        job = await storage.job("j06")
        assert job is not None
        ended = attrs.evolve(job, revision=2, status=_FINISHED)
        await storage.commit(put(ended))
        assert "j06" in await _listed(storage, _labelled(colour="red"))
        await broken(storage, and_break(lambda ledger: ledger.forget_job("j06")))
        assert "j06" in await _listed(storage, _labelled(colour="red"))
        await storage.commit(lambda ledger: ledger.forget_job("j06"))
        assert await _listed(storage, _labelled(colour="red")) == ["j09", "j03", "j00"]
        await storage.commit(put(a_job("j06", created_at=START + 6)))
        assert await _listed(storage, _labelled(colour="red")) == ["j09", "j03", "j00"]

    async def test_a_broken_job_is_not_found(self, storage: Storage) -> None:
        await broken(storage, and_break(put(a_job(labels={"a": "b"}))))
        assert await _listed(storage, _labelled(a="b")) == []

    async def test_what_is_restored_is_found_by_the_labels_that_it_has(
        self, storage: Storage
    ) -> None:
        await storage.commit(put(a_job(labels={"a": "old", "b": "same"})))
        await storage.restore([attrs.evolve(a_job(), revision=7, labels={"a": "new"})])
        assert await _listed(storage, _labelled(a="new")) == ["j"]
        assert await _listed(storage, _labelled(a="old")) == []
        assert await _listed(storage, _labelled(b="same")) == []
