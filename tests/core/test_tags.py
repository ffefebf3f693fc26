"""What an engine was built for: tags, what runs them, and shapes away from the profile."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.model.engine import ShapeRange
from watchdog.tags import Tag, mismatches, off_profile, parse

CT = ShapeRange(least=(1, 1, 64, 64), best=(1, 1, 512, 512), most=(8, 1, 1024, 1024))


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("trt8.5-cuda11.8", Tag(tensorrt=(8, 5), cuda=(11, 8))),
        ("trt8.5.3-cuda11.8", Tag(tensorrt=(8, 5, 3), cuda=(11, 8))),
        ("trt8.5.3.1-cuda11.8", Tag(tensorrt=(8, 5, 3, 1), cuda=(11, 8))),
        ("trt10.13.0-cuda12.9-sm120", Tag(tensorrt=(10, 13, 0), cuda=(12, 9), capability=(12, 0))),
        ("trt8.6.1-cuda12.0-sm86-int8-2024", Tag(tensorrt=(8, 6, 1), cuda=(12, 0), capability=(8, 6))),
        ("trt8.6.1-cuda12.0-sm90a", Tag(tensorrt=(8, 6, 1), cuda=(12, 0), capability=(9, 0))),
        ("trt8.6.1-cuda12.0-small", Tag(tensorrt=(8, 6, 1), cuda=(12, 0))),
    ],
)
def test_tags(text: str, tag: Tag) -> None:
    assert parse(text) == tag


@pytest.mark.parametrize(
    "text",
    [
        "",
        "trt8-cuda11.8",
        "trt8.5.3",
        "trt8.5.3-cuda11",
        "trt8.5.3-cuda11.8.1",
        "trt8.5.3-cuda11.8-",
        "trt8.5.3.1.2-cuda11.8",
        "TRT8.5.3-cuda11.8",
        "trt8.5.3_cuda11.8",
        " trt8.5.3-cuda11.8",
        "trt٨.5.3-cuda11.8",
        f"trt{'9' * 5000}.0-cuda11.8",
    ],
)
def test_no_tags(text: str) -> None:
    assert parse(text) is None


@given(st.text(max_size=40) | st.from_regex(r"trt[\d.]{1,9}-cuda[\d.]{1,6}(-sm\d*)?(-.*)?", fullmatch=True))
def test_any_text_is_a_tag_or_none(text: str) -> None:
    parsed = parse(text)
    assert parsed is None or (2 <= len(parsed.tensorrt) <= 4 and parsed == parse(f"{text}-more"))


@pytest.mark.parametrize(
    ("tag", "runtime", "agrees"),
    [
        ("trt8.5.3-cuda11.8", "trt8.5.3-cuda11.8", True),
        ("trt8.5.3-cuda11.8", "trt8.5.3-cuda11.4", True),
        ("trt8.5-cuda11.8", "trt8.5.3-cuda11.8", True),
        ("trt8.5.3.1-cuda11.8", "trt8.5.3.7-cuda11.8", True),
        ("trt8.5.3-cuda11.8", "trt8.5.2-cuda11.8", False),
        ("trt8.5.3-cuda11.8", "trt8.6.3-cuda11.8", False),
        ("trt8.5.3-cuda11.8", "trt8.5.3-cuda12.0", False),
    ],
)
def test_an_engine_runs_on_the_tensorrt_that_built_it(tag: str, runtime: str, *, agrees: bool) -> None:
    found = mismatches(tag, runtime=runtime, cuda=None, capability=None)
    assert (found == []) == agrees, found


@pytest.mark.parametrize(
    ("built", "runs", "possible"),
    [("8.6.1", "8.6.2", True), ("8.6.1", "10.1.0", True), ("8.5.3", "8.6.1", False), ("10.1.0", "8.6.1", False)],
)
def test_only_some_may_have_been_built_version_compatible(built: str, runs: str, *, possible: bool) -> None:
    (said,) = mismatches(f"trt{built}-cuda12.0", runtime=f"trt{runs}-cuda12.0", cuda=None, capability=None)
    assert said.startswith(f"built by TensorRT {built}, and the server runs {runs}: ")
    assert ("unless it was built version-compatible" in said) == possible


@pytest.mark.parametrize(
    ("built", "driver", "runs"),
    [("11.8", (11, 4), True), ("11.8", (12, 4), True), ("12.0", (12, 9), True), ("12.0", (11, 8), False)],
)
def test_a_driver_runs_its_own_major_version_and_older_ones(built: str, driver: tuple[int, int], *, runs: bool) -> None:
    found = mismatches(f"trt8.6.1-cuda{built}", runtime=None, cuda=driver, capability=None)
    assert found == ([] if runs else ["built with CUDA 12.0, and the driver supports none newer than 11.8"])


@pytest.mark.parametrize(("sm", "gpu", "runs"), [("-sm90", (9, 0), True), ("", (8, 6), True), ("-sm86", (9, 0), False)])
def test_an_engine_runs_on_the_gpus_that_it_was_built_for(sm: str, gpu: tuple[int, int], *, runs: bool) -> None:
    found = mismatches(f"trt8.6.1-cuda12.0{sm}", runtime=None, cuda=None, capability=gpu)
    assert [each.startswith("built for GPUs of compute capability 8.6, and this one has 9.0: ") for each in found] == (
        [] if runs else [True]
    )


def test_all_that_is_wrong_is_said() -> None:
    found = mismatches("trt10.1-cuda12.4-sm86", runtime="trt8.5.3-cuda11.8", cuda=(11, 8), capability=(9, 0))
    assert len(found) == 4


def test_a_tag_that_nobody_can_read_is_said() -> None:
    (said,) = mismatches("v7", runtime="trt8.5.3-cuda11.8", cuda=(11, 8), capability=(9, 0))
    assert said.startswith("the engine's tag 'v7' can't be read; write ")


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((1, 1, 512, 512), None),
        ((1, 1, 256, 256), None),
        ((4, 1, 512, 512), None),
        ((1, 1, 255, 256), "1x1x255x256 is 4 times smaller than 1x1x512x512, which the engine was optimised for"),
        ((8, 1, 1024, 1024), "8x1x1024x1024 is 32 times larger than 1x1x512x512, which the engine was optimised for"),
        ((9, 1, 512, 512), "9x1x512x512 is outside the engine's profile, 1x1x64x64 to 8x1x1024x1024"),
        ((1, 1, 512), "1x1x512 is outside the engine's profile, 1x1x64x64 to 8x1x1024x1024"),
        ((0, 1, 512, 512), "0x1x512x512 is outside the engine's profile, 1x1x64x64 to 8x1x1024x1024"),
        ((), " is outside the engine's profile, 1x1x64x64 to 8x1x1024x1024"),
    ],
    ids=repr,
)
def test_shapes_away_from_the_profile(shape: tuple[int, ...], said: str | None) -> None:
    assert off_profile(shape, CT) == said
