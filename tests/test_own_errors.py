"""Whose an exception is that comes out of foreign code."""

import pytest
import trio

from avtomatika_trio._own_errors import is_its_own


def group(*errors: BaseException) -> BaseException:
    return BaseExceptionGroup("of a nursery", errors)


@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        SystemExit(2),
        BaseException("odd"),
        group(ValueError(), SystemExit(2)),
        group(group(ValueError())),
    ],
)
def test_what_foreign_code_raises_is_its_own(error: BaseException) -> None:
    assert is_its_own(error)


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        GeneratorExit(),
        group(KeyboardInterrupt()),
        group(ValueError(), group(KeyboardInterrupt())),
    ],
)
def test_what_ends_the_process_goes_on(error: BaseException) -> None:
    assert not is_its_own(error)


async def test_a_cancellation_goes_on_also_out_of_nurseries() -> None:
    caught: list[BaseException] = []

    async def foreign() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()

    for call in (trio.sleep_forever, foreign):
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await call()
            except BaseException as exc:
                caught.append(exc)
                raise
    assert [is_its_own(it) for it in caught] == [False, False]
