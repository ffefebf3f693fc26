"""Which addresses a pattern allows: a star opens a part of a name, and nothing can be smuggled through it."""

import doctest
import string
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog import target_patterns
from watchdog.target_patterns import allows, example, refuse

PATTERN = "triton-*.imaging:8001"


@pytest.mark.parametrize(
    ("pattern", "target"),
    [
        (PATTERN, "triton-1.imaging:8001"),
        (PATTERN, "triton-.imaging:8001"),
        (PATTERN, "TRITON-ct_2.Imaging:8001"),
        ("10.0.0.*:8001", "10.0.0.17:8001"),
        ("https://*.imaging:*", "https://a:1".replace("a", "a.imaging")),
        ("[fd00::*]:8001", "[fd00::1]:8001"),
        ("triton:8000/models", "triton:8000/models"),
    ],
)
def test_what_it_names_is_allowed(pattern: str, target: str) -> None:
    assert allows(pattern, target)
    assert allows(pattern, example(pattern))


@pytest.mark.parametrize(
    "target",
    [
        "",
        "triton-1.imaging:8002",
        "triton-1.imaging:80010",
        "triton-1.imaging:8001\n",
        "triton-1.imaging:8001/",
        "http://triton-1.imaging:8001",
        "xtriton-1.imaging:8001",
        "triton-1.evil.example/.imaging:8001",
        "triton-1.evil.imaging:8001",
        "triton-x@evil.imaging:8001",
        "triton-evil:80/.imaging:8001",
        "triton-evil:80#.imaging:8001",
        "triton-evil\\.imaging:8001",
        "triton-%2e.imaging:8001",
        "triton-é.imaging:8001",
        "triton-ſ.imaging:8001",
    ],
)
def test_all_else_is_not(target: str) -> None:
    assert not allows(PATTERN, target)


@given(st.text(string.ascii_letters + string.digits + "-._:/@#?[]\\%é", max_size=12))
def test_whatever_a_star_takes_the_host_stays_in_its_domain(taken: str) -> None:
    target = PATTERN.replace("*", taken)
    if allows(PATTERN, target):
        parts = urlsplit(f"//{target}")
        assert (parts.port, parts.path, parts.username) == (8001, "", None)
        labels = (parts.hostname or "").split(".")
        assert len(labels) == 2
        assert labels[1] == "imaging"


@pytest.mark.parametrize(
    "pattern", ["*:8001", "*", "", "*.*:8001", "http://*:8000/v2", "[*]:8001", "a b:1", "é:1", "\n"]
)
def test_a_pattern_that_names_nobody_in_particular_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"such as triton-\*\.imaging:8001"):
        refuse(pattern)


def test_the_examples_run() -> None:
    found = doctest.testmod(target_patterns)
    assert found.attempted >= 3
    assert found.failed == 0
