"""Calls that block, raise and never return, one at a time."""

import asyncio
import threading

import pytest

from watchdog.gpu.blocking import Blocking


def broken() -> int:
    raise ZeroDivisionError


async def test_a_call_that_raises_raises_where_it_was_awaited_and_nowhere_else() -> None:
    calls = Blocking("test")
    with pytest.raises(ZeroDivisionError):
        await calls.run(broken)
    assert await calls.run(lambda: 42) == 42


async def test_the_next_call_waits_for_one_that_was_given_up_whatever_becomes_of_it() -> None:
    calls, begun, go_on = Blocking("test"), threading.Event(), threading.Event()

    def late() -> int:
        begun.set()
        go_on.wait()
        return broken()

    given_up = asyncio.create_task(calls.run(late))
    await asyncio.to_thread(begun.wait)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    assert calls.busy

    following = asyncio.create_task(calls.run(go_on.is_set))
    await asyncio.sleep(0)
    assert not following.done()
    go_on.set()
    assert await following
    assert not calls.busy


async def test_a_call_that_never_was_is_not_busy() -> None:
    assert not Blocking("test").busy
