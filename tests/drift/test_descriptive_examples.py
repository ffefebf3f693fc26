"""What all descriptive statistics share: examples that run, light imports, refused samples."""

import doctest
import importlib
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from watchdog.drift import calibration, kolmogorov_smirnov, psi, wasserstein
from watchdog.model.tensor import Array

MODULES = [
    f"watchdog.drift.{name}"
    for name in ("histogram", "psi", "jensen_shannon", "kolmogorov_smirnov", "wasserstein", "calibration", "mask")
]
OF_TWO_SAMPLES: dict[str, tuple[Callable[[Array, Array], object], tuple[str, str]]] = {
    "psi": (psi.of_samples, ("reference", "current")),
    "ks": (kolmogorov_smirnov.two_sample, ("reference", "current")),
    "wasserstein": (wasserstein.distance, ("reference", "current")),
    "ece": (calibration.expected_calibration_error, ("confidences", "truth")),
    "brier": (calibration.brier_score, ("confidences", "truth")),
}
NO_SAMPLES = {
    "is empty": np.array([]),
    "NaN or infinity": np.array([0.5, np.nan]),
    "holds NaN or infinity": np.array([-np.inf, 0.5]),
    r"must be \[n\]": np.zeros((2, 2)),
    r"shape \(\)": np.array(0.5),
    "real numbers": np.array(["0.5"]),
    "dtype complex128": np.array([0.5j]),
}


@pytest.mark.parametrize("name", MODULES)
def test_the_docstrings_examples_run(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_that_it_decides_nothing(name: str) -> None:
    assert "DESCRIPTIVE and NOT a decision rule" in (importlib.import_module(name).__doc__ or "")


def test_importing_them_all_leaves_scipy_alone() -> None:
    program = f"import sys, {', '.join(MODULES)}; sys.exit(any(name.startswith('scipy') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("statistic", OF_TWO_SAMPLES)
@pytest.mark.parametrize("problem", NO_SAMPLES)
def test_what_is_no_sample_is_refused_by_its_name(statistic: str, problem: str) -> None:
    measure, (first, second) = OF_TWO_SAMPLES[statistic]
    with pytest.raises(ValueError, match=f"^{first} .*{problem}"):
        measure(NO_SAMPLES[problem], np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match=f"^{second} .*{problem}"):
        measure(np.array([0.0, 1.0]), NO_SAMPLES[problem])
