from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from watchdog.canaries.recipe import Constant, meaning_sha256, read_recipe

GOOD = """
input: image        # the tensor
layout: NCHW
profiles:
  - {name: min, size: [64, 64]}
  - {name: max, size: [128, 96], batch: 4}
window: {low: -1000, high: 400}
normalise: {mean: -300, std: 350}
tolerance: 0.001
"""


def test_reads_yaml(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(GOOD)
    made, digest = read_recipe(path)
    assert [(profile.name, profile.batch, profile.size) for profile in made.profiles] == [
        ("min", 1, (64, 64)),
        ("max", 4, (128, 96)),
    ]
    assert (made.dtype, made.channels, made.frames, made.tolerance) == ("FP32", 1, "all", 0.001)
    assert digest == meaning_sha256(made)


def test_hash_is_of_the_meaning(tmp_path: Path) -> None:
    def digest(text: str) -> str:
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return read_recipe(path)[1]

    same = "# a comment\ndtype: FP32\ntolerance: 1.0e-3\n" + GOOD.replace("tolerance: 0.001\n", "")
    assert digest(same.replace("-1000,", "-1000.0,")) == digest(GOOD)
    assert digest(GOOD.replace("400", "401")) != digest(GOOD)
    assert digest(GOOD.replace("batch: 4", "batch: 5")) != digest(GOOD)


@pytest.mark.parametrize(
    ("change", "place", "says"),
    [
        ({"dtype": "FLOAT"}, "dtype", "allowed are BOOL, UINT8"),
        ({"dtype": "BOOL"}, "dtype", "use UINT8"),
        ({"layout": "NCXY"}, "layout", "N, C, D, H and W"),
        ({"layout": "NCH"}, "layout", "lacks H or W"),
        ({"layout": "CNHW"}, "layout", "in front"),
        ({"layout": "NCDHW"}, "recipe", "has the depth axis D, but unit is slice"),
        ({"unit": "volume"}, "recipe", "lacks the depth axis D"),
        ({"unit": "series"}, "unit", "'slice' or 'volume'"),
        ({"channels": 3, "layout": "NHW"}, "recipe", "no axis C"),
        ({"profiles": []}, "profiles", "at least 1"),
        ({"profiles": [{"name": "a", "size": [0, 4]}]}, "profiles.0.size.0", "greater than 0"),
        ({"profiles": [{"name": "a", "size": [4, 4], "batch": 0}]}, "profiles.0.batch", "greater than or equal to 1"),
        ({"profiles": [{"name": "a", "size": [4, 4, 4]}]}, "recipe", "profile a: size must be [H, W]"),
        ({"profiles": [{"name": "a", "size": [4, 4]}] * 2}, "recipe", "'a' is there twice"),
        ({"profiles": [{"name": "a", "size": [65536, 65536]}]}, "recipe", "elements in one request"),
        ({"layout": "CHW", "profiles": [{"name": "a", "size": [4, 4], "batch": 2}]}, "recipe", "needs the batch axis"),
        ({"window": {"low": 5, "high": 5}}, "window", "low < high"),
        ({"window": {"low": 5}}, "window", "give low and high"),
        ({"window": {"percentile": [99, 1]}}, "window", "the smaller first"),
        ({"window": {"percentile": [1, 99], "low": 1}}, "window", "either low and high"),
        ({"normalise": {"mean": 1}}, "normalise", "give mean and std"),
        ({"normalise": {"std": 0, "mean": 1}}, "normalise.std", "greater than 0"),
        ({"normalise": {"range": [1, 0]}}, "normalise", "the smaller first"),
        ({"normalise": {"range": [0, 1], "mean": 1}}, "normalise", "either mean and std"),
        ({"unit": "volume", "layout": "DHW", "frames": "middle"}, "recipe", "where unit is slice"),
        ({"constants": [{"name": "k", "dtype": "FP16", "value": 1e9}]}, "constants.0", "not finite as FP16"),
        ({"tolerance": -1}, "tolerance", "greater than or equal to 0"),
        ({"tolerance": float("nan")}, "tolerance", "finite"),
        ({"dtype": "UINT8", "tolerance": 0.5}, "recipe", "whole number"),
        ({"frames": "some"}, "frames", "'all' or 'middle'"),
        ({"constants": [{"name": "image", "dtype": "FP32", "value": 1}]}, "recipe", "'image' is there twice"),
        ({"constants": [{"name": "k", "dtype": "UINT8", "value": 300}]}, "constants.0", "does not fit UINT8"),
        ({"constants": [{"name": "k", "dtype": "INT32", "value": [[1], [1, 2]]}]}, "constants.0", "equal length"),
        ({"constants": [{"name": "k", "dtype": "FP32", "value": "x"}]}, "constants.0", "numbers or booleans"),
        ({"sizes": 1}, "sizes", "Extra inputs are not permitted"),
    ],
)
def test_mistakes_are_named_with_file_and_place(tmp_path: Path, change: dict[str, Any], place: str, says: str) -> None:
    path = tmp_path / "recipe.yaml"
    usual = {"input": "image", "profiles": [{"name": "opt", "size": [64, 64]}]}
    path.write_text(yaml.safe_dump(usual | change))
    with pytest.raises(ValueError, match=r"recipe\.yaml") as caught:
        read_recipe(path)
    lines = str(caught.value).splitlines()
    assert any(line.startswith(f"{path}: {place}: ") and says in line for line in lines), lines


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "\0"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"recipe\.yaml"):
        read_recipe(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.yaml"):
        read_recipe(tmp_path / "nowhere.yaml")


def test_constants_keep_shape_and_datatype() -> None:
    array = Constant(name="k", dtype="INT64", value=[[1, 2, 3]]).array()
    assert array.dtype == np.int64
    assert array.shape == (1, 3)
    assert Constant(name="k", dtype="BOOL", value=True).array().dtype == np.bool_
