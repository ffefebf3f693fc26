"""What a person may write, and what is said to a mistake."""

import socket
from typing import Any

import pytest
from pydantic import ValidationError

from watchdog.settings import complaints
from watchdog.sharing import SharingSettings
from watchdog.sharing.elapsed import since_boot

LEASE = {"name": "lung"}


def mistakes(data: dict[str, Any]) -> list[str]:
    with pytest.raises(ValidationError) as refused:
        SharingSettings.model_validate(data)
    return complaints(refused.value)


def test_the_least_that_must_be_written() -> None:
    settings = SharingSettings.model_validate({"lease": LEASE})
    assert settings.identity == socket.gethostname().lower()
    assert (settings.lease.duration, settings.lease.renew_deadline, settings.lease.retry) == (15, 10, 2)
    assert settings.quorum is None


@pytest.mark.parametrize(
    ("lease", "path", "said"),
    [
        (
            {"duration": "10s"},
            "lease.renew_deadline",
            "must be shorter than duration (10 s), or two could lead at once",
        ),
        ({"duration": "1s", "renew_deadline": "500ms"}, "lease.duration", "must be longer than 1 s"),
        ({"renew_deadline": "2400ms", "timeout": "1s"}, "lease.retry", "1.2 × it must be shorter than renew_deadline"),
        ({"timeout": "10s"}, "lease.timeout", "must be shorter than renew_deadline (10 s)"),
        ({"name": "lung.nodule"}, "lease.name", "should match pattern"),
        ({"name": "Lung"}, "lease.name", "should match pattern"),
        ({"name": "x" * 64}, "lease.name", "at most 63"),
        ({"name": "lung\n"}, "lease.name", "should match pattern"),
    ],
)
def test_a_lease_that_can_t_work(lease: dict[str, str], path: str, said: str) -> None:
    (mistake,) = mistakes({"lease": {**LEASE, **lease}})
    assert mistake.startswith(f"{path}: ")
    assert said in mistake


@pytest.mark.parametrize(
    ("quorum", "path", "said"),
    [
        ({}, "quorum.by", "is required"),
        ({"by": "vote"}, "quorum.by", "'vote' is not known"),
        ({"by": "kubernetes"}, "quorum.kubernetes.need", "is required"),
        ({"by": "kubernetes", "need": "half"}, "quorum.kubernetes.need", "such as 2, or what share"),
        ({"by": "prometheus", "need": 2}, "quorum.prometheus.url", "is required"),
    ],
)
def test_a_quorum_that_can_t_work(quorum: dict[str, Any], path: str, said: str) -> None:
    (mistake,) = mistakes({"lease": LEASE, "quorum": quorum})
    assert mistake.startswith(f"{path}: ")
    assert said in mistake


@pytest.mark.parametrize("identity", ["", "Pod", "a_b", "-a", "a..b", "x" * 181, "a\n"])
def test_an_identity_must_be_able_to_name_an_object(identity: str) -> None:
    (mistake,) = mistakes({"lease": LEASE, "identity": identity})
    assert mistake.startswith("identity: ")


def test_the_clock_goes_on() -> None:
    assert 0 < since_boot() <= since_boot()
