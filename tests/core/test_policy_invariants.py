"""What the policy remembers survives being written down, and what is no memory is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.model.engine import Role
from watchdog.policy.memory import PolicyState, Trouble
from watchdog.policy.states import State

TIMES = st.floats(0, 4e9)
PERCENT = st.integers(0, 100)
TROUBLES = st.none() | st.builds(Trouble, reason=st.text(), conclusion=st.text(), detail=st.text(), since=TIMES)


@given(
    st.builds(
        PolicyState,
        state=st.sampled_from(State),
        since=TIMES,
        desired=st.sampled_from(Role),
        share=PERCENT,
        target=st.none() | st.sampled_from(Role),
        target_percent=PERCENT,
        commanded=st.booleans(),
        trouble=TROUBLES,
        cause=TROUBLES,
        reasserted=TROUBLES,
        drifted=TROUBLES,
        slowed=TROUBLES,
        switches=st.lists(TIMES, max_size=5).map(tuple),
        wrong=st.lists(TIMES, max_size=5).map(tuple),
        intermittent=TROUBLES,
        waits_since=TIMES,
        failed_returns=st.integers(0, 99),
        good=st.integers(0, 999),
        by_itself=st.booleans(),
    )
)
def test_the_memory_survives_json(state: PolicyState) -> None:
    assert PolicyState.from_json(json.loads(json.dumps(state.to_json()))) == state


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.just(10**400) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(key=st.sampled_from(sorted(PolicyState().to_json())), value=JSON, missing=st.booleans())
def test_a_damaged_memory_is_refused_or_understood_never_a_surprise(key: str, value: Any, missing: bool) -> None:
    data = PolicyState().to_json() | {key: value}
    if missing:
        del data[key]
    try:
        PolicyState.from_json(data)
    except ValueError:
        return
    assert not missing or key in LATER


LATER = {
    "drifted",
    "slowed",
    "share",
    "target_percent",
    "wrong",
    "intermittent",
    "waits_since",
    "failed_returns",
    "good",
    "by_itself",
}
"""What journals of before know nothing of."""


@pytest.mark.parametrize(("desired", "share"), [(Role.FAST, 100), (Role.SAFE, 0)])
def test_a_journal_of_before_is_understood(desired: Role, share: int) -> None:
    told = PolicyState(desired=desired, share=share, since=7.0).to_json()
    state = PolicyState.from_json({key: value for key, value in told.items() if key not in LATER})
    assert state == PolicyState(desired=desired, share=share, since=7.0, waits_since=7.0)


@pytest.mark.parametrize("data", [None, [], "x", {}, {"state": "asleep"}])
def test_what_is_no_memory_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match=r"not a policy state|not a valid State"):
        PolicyState.from_json(data)
