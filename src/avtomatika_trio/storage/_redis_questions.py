"""What an operation asks Redis, where nobody here knows the answer."""

from collections.abc import Sequence

import attrs


@attrs.frozen
class First:
    """A question: the first members of a sorted set, as bytes."""

    key: str
    most: int
    due: bool = False
    """Only those whose score is a time that has come: pairs of text and that time."""


@attrs.frozen
class Score:
    """A question: the score of a member of a sorted set."""

    key: str
    member: str


Question = First | Score


class Missing(BaseException):
    """The operation needs what was not fetched yet; no error, so nothing should catch it."""

    def __init__(
        self,
        records: Sequence[str] = (),
        sets: Sequence[str] = (),
        questions: Sequence[Question] = (),
    ) -> None:
        super().__init__(records, sets, questions)
        self.records, self.sets, self.questions = records, sets, questions
