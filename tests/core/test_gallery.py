"""Canaries as pictures: what is kept, for how long, how small, and what is drawn of it."""

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from tests.core.builders import MODEL, OUTPUT, a_baseline, a_canary, a_finding, a_result
from tests.core.story_events import FAULT, one_of_each, probed
from tests.core.virtual_time import EPOCH
from watchdog.model.baseline import Golden
from watchdog.model.canary import Canary
from watchdog.model.event import Baselined, Probed
from watchdog.model.tensor import Array
from watchdog.model.verdict import Assessment, Verdict
from watchdog.telemetry.gallery import MOST_NEWEST, MOST_WRONG, SIDE, WRONG_FOR_S, Drawing, Gallery, Picture

WHOLE = (1, 1, 64, 64)


def spot(shape: tuple[int, ...] = WHOLE, at: tuple[int, int] = (8, 8), value: float = 1.0) -> Array:
    """Nothing anywhere, but for a square at one place of the last two axes."""
    array = np.zeros(shape, dtype=np.float32)
    array[..., at[0] : at[0] + 4, at[1] : at[1] + 4] = value
    return array


HEAT, HALF = spot(), np.array([[0.5]], dtype=np.float32)
RIGHT = {"probability": HALF, "heatmap": HEAT}


def imaged(name: str = "c0", image: Array | None = None) -> Canary:
    given = np.linspace(-1000, 400, 64 * 64, dtype=np.float32).reshape(WHOLE) if image is None else image
    return a_canary(name, inputs={"CT": given})


def a_gallery(outputs: Mapping[str, Array] = RIGHT, *canaries: Canary) -> Gallery:
    found = canaries or (imaged(),)
    gallery = Gallery()
    golden = {canary.id: Golden(outputs=outputs, spread={}) for canary in found}
    gallery.know(MODEL, found, replace(a_baseline(), golden=golden))
    return gallery


def came(
    outputs: Mapping[str, Array] = RIGHT, *, at: float = 0.0, verdict: Verdict = Verdict.HEALTHY, **result: Any
) -> Probed:
    findings = (a_finding(),) if verdict is Verdict.FAILED else ()
    told = Assessment(result=a_result(outputs=outputs, **result), verdict=verdict, findings=findings)
    return Probed(model=MODEL, at=EPOCH + at, assessment=told)


def shown(gallery: Gallery, at: float = 0.0) -> list[dict[str, Any]]:
    return gallery.document(MODEL, EPOCH + at)


def drawing(gallery: Gallery, picture: Picture, number: int = 1) -> Drawing:
    found = gallery.drawing(MODEL, number, picture)
    assert found is not None
    return found


def pixels(gallery: Gallery, picture: Picture, number: int = 1) -> Array:
    """[rows, columns, RGB] of the PNG that is sent."""
    with Image.open(io.BytesIO(drawing(gallery, picture, number).png())) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image, dtype=np.int64)


def test_an_answer_is_kept_with_its_pictures_bars_and_scores_and_without_its_tensors() -> None:
    gallery = a_gallery()
    gallery(came())
    (answer,) = json.loads(json.dumps(shown(gallery), allow_nan=False))
    assert answer["pictures"] == ["input", "golden", "current", "difference"]
    assert (answer["output"], answer["canary"], answer["verdict"]) == ("heatmap", "c0", "healthy")
    assert answer["bars"] == [{"output": "probability", "golden": [0.5], "current": [0.5]}]
    assert "outputs" not in answer


def test_scores_stand_beside_their_limits() -> None:
    gallery = Gallery()
    gallery(next(event for event in one_of_each() if isinstance(event, Baselined)))
    gallery(probed(score=0.25))
    gallery(probed(score=float("nan"), canary="c1"))
    limits = [each["limits"] for each in shown(gallery, 10)]
    row = {"output": OUTPUT, "measure": "max_abs", "limit": 0.1, "at_least": False}
    assert limits == [[row | {"score": None}], [row | {"score": 0.25}]], "JSON has no NaN"


def test_a_right_answer_differs_nowhere_and_a_wrong_one_where_it_is_wrong() -> None:
    gallery = a_gallery()
    gallery(came())
    black = pixels(gallery, Picture.DIFFERENCE, 1)
    assert np.ptp(black.sum(axis=2)) == 0
    moved = spot(at=(40, 40))
    gallery(came({**RIGHT, "heatmap": moved}, verdict=Verdict.FAILED))
    differs = pixels(gallery, Picture.DIFFERENCE, 2).sum(axis=2) > black.sum(axis=2)
    assert (differs == ((HEAT > 0) | (moved > 0))[0, 0]).all()


def test_heat_is_brightest_where_the_answer_says_most_and_lies_over_the_input() -> None:
    gallery = a_gallery()
    gallery(came({**RIGHT, "heatmap": spot(at=(40, 40))}))
    for picture, at in ((Picture.GOLDEN, 8), (Picture.CURRENT, 40)):
        brightness = pixels(gallery, picture).sum(axis=2)
        assert brightness[at, at] == brightness.max()
        assert brightness[63, 63] > brightness[0, 0], "the input, which is brightest there"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_chequered_whatever_it_lies_over(value: float) -> None:
    gallery = a_gallery()
    gallery(came({**RIGHT, "heatmap": spot(value=value)}, verdict=Verdict.FAILED))
    strange = pixels(gallery, Picture.CURRENT)[8:12, 8:12].reshape(-1, 3)
    assert {tuple(each) for each in strange} <= {(255, 0, 170), (40, 0, 30)}
    whole = a_gallery()
    whole(came({**RIGHT, "heatmap": np.full(WHOLE, value, dtype=np.float32)}, verdict=Verdict.FAILED))
    assert {tuple(each) for each in pixels(whole, Picture.CURRENT).reshape(-1, 3)} == {(255, 0, 170), (40, 0, 30)}


def test_bars_of_what_is_no_number_are_null() -> None:
    gallery = a_gallery()
    gallery(came({**RIGHT, "probability": np.array([[np.nan]], dtype=np.float32)}))
    assert shown(gallery)[0]["bars"][0]["current"] == [None]


def test_a_large_picture_is_reduced_and_its_smallest_spot_is_not_lost() -> None:
    large = np.zeros((1, 1, 1000, 700), dtype=np.float32)
    large[0, 0, 501, 333] = 1.0
    gallery = a_gallery({"heatmap": large}, imaged(image=np.zeros_like(large)))
    gallery(came({"heatmap": large}))
    for picture in (Picture.GOLDEN, Picture.CURRENT):
        seen = pixels(gallery, picture)
        assert max(seen.shape[:2]) <= SIDE
        assert (seen.sum(axis=2) > 500).sum() == 1
    assert drawing(gallery, Picture.CURRENT).plane.nbytes <= SIDE * SIDE


def test_of_a_volume_the_slice_is_shown_of_which_the_golden_answer_says_most() -> None:
    volume = np.zeros((1, 1, 5, 32, 32), dtype=np.float32)
    volume[0, 0, 3] = spot((32, 32))
    image = np.broadcast_to(np.arange(5, dtype=np.float32)[:, None, None] * 100, (5, 32, 32))[None, None].copy()
    image[0, 0, 3, 0, 0] = 0.0
    gallery = a_gallery({"mask": volume}, imaged(image=image))
    gallery(came({"mask": volume}))
    assert pixels(gallery, Picture.GOLDEN)[8, 8].sum() > 500
    assert drawing(gallery, Picture.INPUT).plane[1, 1] == 300.0, "the input's slice at the same depth"


@pytest.mark.parametrize(
    ("outputs", "pictures"),
    [
        ({}, ["input", "golden"]),
        ({"probability": HALF}, ["input", "golden"]),
        ({"heatmap": spot((1, 1, 32, 32))}, ["input", "golden"]),
        ({"heatmap": np.zeros((0,), dtype=np.float32)}, ["input", "golden"]),
        ({"heatmap": np.float32(1).reshape(())}, ["input", "golden"]),
        ({"heatmap": HEAT.astype(np.float16)}, ["input", "golden", "current", "difference"]),
        ({"heatmap": HEAT.astype(np.int64)}, ["input", "golden", "current", "difference"]),
        ({"heatmap": HEAT.astype(np.bool_)}, ["input", "golden", "current", "difference"]),
    ],
)
def test_whatever_a_server_sends_can_be_told(outputs: dict[str, Array], pictures: list[str]) -> None:
    gallery = a_gallery()
    gallery(came(outputs, verdict=Verdict.FAILED))
    (answer,) = shown(gallery)
    assert answer["pictures"] == pictures
    for picture in answer["pictures"]:
        assert pixels(gallery, Picture(picture)).size


@given(
    hnp.arrays(
        hnp.floating_dtypes(endianness="="),
        hnp.array_shapes(min_dims=0, max_dims=5, max_side=20),
        elements={"allow_subnormal": False},
    )
)
def test_no_answer_of_a_server_ends_the_watch(answer: Array) -> None:
    for gallery in (Gallery(), a_gallery(), a_gallery({"heatmap": answer})):
        gallery(came({"heatmap": answer}, verdict=Verdict.FAILED))
        (told,) = json.loads(json.dumps(shown(gallery), allow_nan=False))
        for picture in told["pictures"]:
            assert drawing(gallery, Picture(picture)).png()


def test_without_a_golden_answer_only_what_came_is_shown() -> None:
    gallery = Gallery()
    gallery(came())
    assert shown(gallery)[0]["pictures"] == ["current"]
    assert gallery.drawing(MODEL, 1, Picture.GOLDEN) is None


def test_an_input_that_is_no_image_has_no_picture() -> None:
    gallery = a_gallery(RIGHT, a_canary("c0"))
    gallery(came())
    assert shown(gallery)[0]["pictures"] == ["golden", "current", "difference"]


def test_no_answer_at_all_is_shown_as_that() -> None:
    gallery = a_gallery()
    gallery(came({}, verdict=Verdict.INCONCLUSIVE, fault=FAULT))
    (answer,) = shown(gallery)
    assert (answer["pictures"], answer["fault"]["detail"]) == (["input", "golden"], "no answer within 2 s")


def test_only_so_many_are_kept_the_newest_first_and_each_canary_once() -> None:
    gallery = Gallery()
    for i in range(50):
        gallery(came(canary=f"c{i % 20}", at=i))
    assert [answer["canary"] for answer in shown(gallery, 50)] == [
        f"c{i % 20}" for i in range(49, 49 - MOST_NEWEST, -1)
    ]
    assert gallery.drawing(MODEL, 1, Picture.CURRENT) is None, "its picture is no longer kept"


def test_wrong_answers_come_first_and_stay_when_right_ones_follow() -> None:
    gallery = Gallery()
    gallery(came(canary="w", verdict=Verdict.FAILED))
    for i in range(20):
        gallery(came(canary=f"c{i % 10}", at=1 + i))
    assert [answer["canary"] for answer in shown(gallery, 30)][:2] == ["w", "c9"]
    assert "w" not in {answer["canary"] for answer in shown(gallery, WRONG_FOR_S)}, "not for ever"


def test_wrong_answers_of_a_burst_are_shown_and_right_ones_are_not() -> None:
    gallery = Gallery()
    gallery(came(canary="a", public=False, verdict=Verdict.FAILED))
    gallery(came(canary="b", public=False))
    assert [(answer["canary"], answer["public"]) for answer in shown(gallery)] == [("a", False)]


def test_bursts_do_not_push_wrong_answers_out_before_anybody_has_seen_them() -> None:
    gallery = Gallery()
    for i in range(90):
        gallery(came(canary=f"c{i}", at=i / 10, public=False, verdict=Verdict.FAILED))
    assert [answer["canary"] for answer in shown(gallery, 9)] == ["c3", "c2", "c1", "c0"]
    gallery(came(canary="new", at=11, public=False, verdict=Verdict.FAILED))
    assert [answer["canary"] for answer in shown(gallery, 11)] == ["new", "c3", "c2", "c1"]
    assert len(shown(gallery, 11)) == MOST_WRONG


def test_what_is_forgotten_is_gone_and_a_reload_replaces_limits() -> None:
    gallery = a_gallery()
    gallery(came())
    gallery.forget(MODEL)
    assert shown(gallery) == []
    assert gallery.drawing(MODEL, 1, Picture.CURRENT) is None
    gallery(next(event for event in one_of_each() if isinstance(event, Baselined)))
    assert shown(gallery) == []


@pytest.mark.parametrize("low_high", [(-5.0, 5.0), (0.0, 1.0), (3.0, 3.0), (0.0, 0.0)])
def test_a_picture_of_any_scale_can_be_drawn(low_high: tuple[float, float]) -> None:
    low, high = low_high
    heat = np.linspace(low, high, 64 * 64, dtype=np.float32).reshape(WHOLE)
    gallery = a_gallery({"logits": heat})
    gallery(came({"logits": heat}))
    for picture in Picture:
        assert pixels(gallery, picture).shape == (64, 64, 3)


@given(st.sampled_from(list(Picture)), st.integers(1, 300), st.integers(1, 300))
def test_a_png_is_never_larger_than_promised(picture: Picture, rows: int, columns: int) -> None:
    plane = np.zeros((min(rows, SIDE), min(columns, SIDE)), dtype=np.uint8)
    if picture in {Picture.INPUT, Picture.GOLDEN}:
        plane = np.zeros((rows, columns), dtype=np.float32)
    with Image.open(io.BytesIO(Drawing(picture=picture, plane=plane).png())) as image:
        assert max(image.size) <= SIDE
