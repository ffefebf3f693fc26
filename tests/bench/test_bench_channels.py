"""Nothing is lost, nothing is out of order, whatever receivers do and whenever the watchdog is killed: a small run."""

import pytest

from bench.channels import trial


@pytest.mark.timeout(120)
async def test_receivers_that_misbehave_and_kill_9_lose_nothing() -> None:
    found = await trial(20, seed=2)
    assert found["conditions_begun_and_ended"] > 3
    assert found["kills"] > 3
    assert set(found["lost"].values()) == {0}, found
    assert set(found["out_of_order"].values()) == {0}, found
    assert found["complaints"] == []
