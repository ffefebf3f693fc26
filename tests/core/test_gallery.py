"""The newest canaries as pictures: what is kept, what is drawn, and that nothing else is."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.core.builders import MODEL, a_finding
from tests.core.story_events import probed
from tests.core.virtual_time import EPOCH
from watchdog.model.baseline import Baseline, Golden
from watchdog.model.canary import Canary
from watchdog.model.event import Probed
from watchdog.model.tensor import Array
from watchdog.model.verdict import Verdict
from watchdog.telemetry.gallery import MOST_NEWEST, MOST_WRONG, SIDE, WRONG_FOR_S, Gallery, Picture

HEAT = np.linspace(0, 1, 32 * 32, dtype=np.float32).reshape(1, 1, 32, 32)


def a_canary(name: str, side: int = 64) -> Canary:
    image = np.linspace(-1000, 400, side * side, dtype=np.float32).reshape(1, 1, side, side)
    return Canary(id=name, inputs={"CT": image}, sha256="0", source="a.dcm", profile="opt")


def a_gallery(*names: str, golden: Array = HEAT) -> Gallery:
    right = Golden(outputs={"heatmap": golden, "p": np.array([0.9], np.float32)}, spread={})
    baseline = Baseline(
        model=MODEL,
        created_at="",
        server="",
        recipe_sha256="",
        canaries={},
        engines={},
        golden=dict.fromkeys(names, right),
        repeats=1,
    )
    gallery = Gallery()
    gallery.know(MODEL, [a_canary(name) for name in names], baseline)
    return gallery


def answered(name: str, heat: Array | None = HEAT, *, wrong: bool = False, at: float = EPOCH, **more: Any) -> Probed:
    outputs = {"p": np.array([0.5], np.float32)} | ({} if heat is None else {"heatmap": heat})
    findings = (a_finding(),) if wrong else ()
    verdict = Verdict.FAILED if wrong else Verdict.HEALTHY
    return replace(probed(*findings, verdict=verdict, canary=name, outputs=outputs, **more), at=at)


def pixels(gallery: Gallery, picture: Picture, number: int = 1) -> Image.Image:
    drawing = gallery.drawing(MODEL, number, picture)
    assert drawing is not None
    return Image.open(io.BytesIO(drawing.png())).convert("RGB")


def colours(image: Image.Image) -> int:
    return len(np.unique(np.asarray(image).reshape(-1, 3), axis=0))


def test_an_answer_is_shown_beside_what_went_in_and_what_should_have_come() -> None:
    gallery = a_gallery("a")
    gallery(answered("a", HEAT * 0))
    (shown,) = gallery.document(MODEL, EPOCH)
    assert (shown["canary"], shown["output"], shown["pictures"]) == ("a", "heatmap", list(Picture))
    assert shown["bars"] == [
        {"output": "p", "golden": [pytest.approx(0.9)], "current": [0.5]},
    ]
    assert {pixels(gallery, picture).size for picture in Picture} == {(64, 64), (32, 32)}
    golden, current = pixels(gallery, Picture.GOLDEN), pixels(gallery, Picture.CURRENT)
    assert golden.getpixel((31, 31)) != current.getpixel((31, 31)), "zeros are dark where the golden one is bright"
    assert golden.getpixel((0, 0)) == current.getpixel((0, 0))


def test_a_right_answer_differs_nowhere_and_nan_can_be_seen() -> None:
    gallery = a_gallery("a")
    gallery(answered("a"))
    assert colours(pixels(gallery, Picture.DIFFERENCE)) == 1
    gallery(answered("a", np.full_like(HEAT, np.nan), wrong=True))
    assert colours(pixels(gallery, Picture.CURRENT, 2)) == 2, "a chequerboard"


def test_large_pictures_are_made_small_before_they_are_kept() -> None:
    large = np.zeros((1, 1, 1000, 700), np.float32)
    gallery = a_gallery("a", golden=large)
    gallery(answered("a", large))
    assert max(pixels(gallery, Picture.CURRENT).size) <= SIDE


@pytest.mark.parametrize(
    "heat", [None, np.zeros((1, 1, 8, 8), np.float32), np.zeros((2, 1, 32, 32), np.float32), np.zeros(3, np.float32)]
)
def test_an_answer_of_another_shape_is_no_picture_and_no_failure(heat: Array | None) -> None:
    gallery = a_gallery("a")
    gallery(answered("a", heat, wrong=True))
    (shown,) = gallery.document(MODEL, EPOCH)
    assert shown["pictures"] == [Picture.INPUT, Picture.GOLDEN]
    assert gallery.drawing(MODEL, 1, Picture.CURRENT) is None


def test_only_so_many_are_kept_and_wrong_ones_come_first() -> None:
    names = [f"c{i}" for i in range(40)]
    gallery = a_gallery(*names)
    for i, name in enumerate(names):
        gallery(answered(name, wrong=i % 10 == 0, at=EPOCH + i))
    shown = gallery.document(MODEL, EPOCH + 40)
    assert [s["canary"] for s in shown[:MOST_WRONG]] == ["c30", "c20", "c10", "c0"]
    assert [s["canary"] for s in shown[MOST_WRONG:]] == [f"c{39 - i}" for i in range(MOST_NEWEST)]
    assert gallery.drawing(MODEL, 2, Picture.CURRENT) is None, "dropped"
    late = gallery.document(MODEL, EPOCH + WRONG_FOR_S + 100)
    assert "failed" not in [s["verdict"] for s in late]


def test_of_bursts_only_wrong_answers_are_kept() -> None:
    gallery = a_gallery("a", "b")
    gallery(answered("a", public=False))
    gallery(answered("b", public=False, wrong=True))
    assert [s["canary"] for s in gallery.document(MODEL, EPOCH)] == ["b"]


def test_a_model_that_is_watched_no_longer_is_forgotten() -> None:
    gallery = a_gallery("a")
    gallery(answered("a"))
    gallery.forget(MODEL)
    assert gallery.document(MODEL, EPOCH) == []
    assert gallery.drawing(MODEL, 1, Picture.INPUT) is None
