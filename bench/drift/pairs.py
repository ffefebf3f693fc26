"""Pairs: what a fast engine answers, beside what a safe one answers to the same image.

The classifier of `bench.drift.classifier` is the safe engine; the fast one is the same network in half
precision, which differs a little from it even in health. Faults happen inside that network. They are
looked for in three ways:

- **canaries**, a few images again and again, in an order that is drawn anew each time, each with a
  little noise: by `PairedDetector`, from logits and, to see what that is worth, from probabilities;
- **shadow pairs**, live images through both engines: by `LiveDetector`, on differences of logits;
- **unpaired**, live images through the fast engine only: by `LiveDetector`, on confidences.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from scipy.special import expit

from bench.drift import classifier
from bench.drift.classifier import Network
from bench.drift.contestants import ARL
from bench.drift.measure import RUN_IN, Delays, Quiet, generator
from bench.drift.streams import Array, Rng
from bench.drift.subject import Cost, Update, take_cost
from watchdog.drift.links import LOGIT_LIMIT, Link
from watchdog.drift.live import LiveDetector
from watchdog.drift.paired import PairedDetector, PairedReference
from watchdog.drift.reference import Reference
from watchdog.model.score import Promise

STREAM = "digits-mlp pairs"
_PROMISE = Promise(run_length=ARL)
_CANARIES, _REPEATS = 32, 5
_MOVED, _TOLERANCE = 8, 0.5 / 255
"""Pixels of a canary that are moved, and by how much at most: half a grey level, white being 1."""
_REFERENCE = 2_000
"""Live images, or pairs, that are learnt from."""
_CHUNK = 500
"""Live images drawn at a time."""
_QUIET_RUN = 5_000
"""Observations after each capture."""
_ATTEMPTS = 20
_DARKER = 0.8
_EXPONENT = range(10, 15)
"""Bits of a number in half precision."""

Engine = Callable[[Array, Array], Array]
"""([N, 64] images, [N] their digits) → [N] logits of the top class's probability."""


@dataclass(frozen=True, kw_only=True)
class _Computed:
    """An engine that computes the network."""

    network: Network
    half: bool = True
    step: float | None = None
    """Of an INT8 hidden layer."""
    temperature: float = 1.0
    bias: float = 0.0

    def __call__(self, images: Array, _digits: Array) -> Array:
        hidden = self.network.hidden(_halved(images) if self.half else images)
        if self.step is not None:
            hidden = classifier.clipped(hidden, self.step)
        margins = self.network.margins(_halved(hidden) if self.half else hidden)
        with np.errstate(divide="ignore"):
            logits = classifier.confidence(margins.astype(np.float64), self.temperature) + self.bias
        return np.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT)


@dataclass(frozen=True, kw_only=True)
class Fault:
    name: str
    strike: Callable[[_Computed, Rng, Array], Engine]
    """From the healthy engine, and the digits that are there to be affected, the faulty one."""


def _stuck(engine: _Computed, _rng: Rng, _digits: Array) -> Engine:
    held: list[float] = []

    def answer(images: Array, digits: Array) -> Array:
        if not held:
            held.append(float(engine(images[:1], digits[:1])[0]))
        return np.full(len(images), held[0])

    return answer


def _corrupted(engine: _Computed, rng: Rng, _digits: Array) -> Engine:
    """One exponent bit of one weight flips: it becomes 2 to 65,536 times what it was, or as small a part."""
    weights = [layer.astype(np.float16) for layer in engine.network.weights]
    at = int(rng.integers(sum(layer.size for layer in weights)))
    layer = weights[0] if at < weights[0].size else weights[1]
    layer.ravel().view(np.uint16)[at % weights[0].size] ^= np.uint16(1 << rng.choice(_EXPONENT))
    first, second = (each.astype(np.float32) for each in weights)
    return replace(engine, network=Network((first, second), engine.network.biases))


def _darker(engine: _Computed, rng: Rng, digits: Array) -> Engine:
    """Images of one digit come darker than they are, as those of a vendor whose header is misread."""
    which = rng.choice(digits)

    def answer(images: Array, digits: Array) -> Array:
        return engine(np.where((digits == which)[:, None], np.float32(_DARKER) * images, images), digits)

    return answer


FAULTS = {
    fault.name: fault
    for fault in (
        Fault(name="zero", strike=lambda _e, _r, _d: lambda images, _: np.full(len(images), -LOGIT_LIMIT)),
        Fault(name="stuck", strike=_stuck),
        Fault(name="temperature-2", strike=lambda e, _r, _d: replace(e, temperature=2.0)),
        Fault(name="bias-1", strike=lambda e, _r, _d: replace(e, bias=1.0)),
        Fault(name="bias-0.3", strike=lambda e, _r, _d: replace(e, bias=0.3)),
        Fault(name="int8-clipping", strike=lambda e, _r, _d: replace(e, step=classifier.learnt().step)),
        Fault(name="corrupted-weight", strike=_corrupted),
        Fault(name="one-digit-darker", strike=_darker),
    )
}


def _engines() -> tuple[_Computed, _Computed]:
    """The fast one and the safe one."""
    network = classifier.learnt().network
    first, second = (_halved(layer) for layer in network.weights)
    fast = Network((first, second), (_halved(network.biases[0]), _halved(network.biases[1])))
    return _Computed(network=fast), _Computed(network=network, half=False)


def _halved(values: Array) -> Array:
    return values.astype(np.float16).astype(np.float32)


class Watch(Protocol):
    """A detector that has learnt, and what it is shown."""

    @property
    def digits(self) -> Array:
        """That there are to be seen."""

    def fresh(self) -> Any:
        """The detector's state."""

    def observe(self, engine: Engine, rng: Rng, count: int, /) -> Iterator[Any]:
        """What an engine answers to so many images in turn."""

    def update(self, state: Any, observed: Any, /) -> tuple[Any, bool]:
        """The state after it, and whether that is an alarm."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """One way of looking for faults."""

    name: str
    learn: Callable[[Rng], Watch]
    """From the healthy engines."""
    reference: int
    """How many observations it learns from."""
    bound: int
    """Observations after which a fault counts as missed."""


@dataclass(frozen=True, kw_only=True)
class _Canaries:
    """Some held-out digits and the detector of their answers."""

    images: Array
    digits: Array
    detector: PairedDetector
    reading: Callable[[Array], Array]
    """Of a logit."""

    def fresh(self) -> Any:
        return self.detector.fresh()

    def observe(self, engine: Engine, rng: Rng, count: int) -> Iterator[tuple[str, float]]:
        rounds = [rng.permutation(_CANARIES) for _ in range(-(-count // _CANARIES))]
        order = np.concatenate(rounds)[:count]
        answers = self.reading(engine(_perturbed(self.images[order], rng), self.digits[order]))
        yield from zip(map(str, order.tolist()), answers.tolist(), strict=True)

    def update(self, state: Any, observed: tuple[str, float]) -> tuple[Any, bool]:
        canary, answer = observed
        state, score = self.detector.update(state, canary, {"top": answer})
        return state, score.alarm is not None


def _perturbed(images: Array, rng: Rng) -> Array:
    """As `Canary.perturbed` does it, for [N, 64] images at once."""
    moved, at = images.copy(), rng.integers(images.shape[1], size=(len(images), _MOVED))
    moved[np.arange(len(images))[:, None], at] += rng.uniform(-_TOLERANCE, _TOLERANCE, at.shape).astype(np.float32)
    return moved


def _capture(rng: Rng, reading: Callable[[Array], Array]) -> _Canaries:
    """As the watchdog captures: golden answers by the safe engine, a few noisy repeats by the fast one."""
    known = classifier.learnt()
    chosen = rng.choice(len(known.images), _CANARIES, replace=False)
    images, digits = known.images[chosen].reshape(_CANARIES, -1), known.labels[chosen]
    fast, safe = _engines()
    golden = reading(safe(images, digits))
    repeats = [reading(fast(_perturbed(images, rng), digits)) - golden for _ in range(_REPEATS)]
    reference = PairedReference(
        golden={str(i): {"top": float(answer)} for i, answer in enumerate(golden)},
        residuals={str(i): {"top": residuals.tolist()} for i, residuals in enumerate(np.transpose(repeats))},
        strata={str(i): {"digit": str(digit)} for i, digit in enumerate(digits)},
    )
    return _Canaries(images=images, digits=digits, detector=PairedDetector(reference, _PROMISE), reading=reading)


@dataclass(frozen=True, kw_only=True)
class _Live:
    """Live images and the detector of what one engine says of them, or both."""

    link: Link
    detector: LiveDetector
    digits: Array = field(default_factory=lambda: classifier.learnt().labels)

    def fresh(self) -> Any:
        return self.detector.fresh()

    def observe(self, engine: Engine, rng: Rng, count: int) -> Iterator[float]:
        for begin in range(0, count, _CHUNK):
            yield from _lively(self.link, engine, rng, min(_CHUNK, count - begin)).tolist()

    def update(self, state: Any, observed: float) -> tuple[Any, bool]:
        state, score = self.detector.update(state, (observed,))
        return state, score.alarm is not None


def _lively(link: Link, engine: Engine, rng: Rng, count: int) -> Array:
    """Confidences or, if differences are watched, those of logits to the safe engine's."""
    known = classifier.learnt()
    which = rng.integers(len(known.images), size=count)
    images, digits = classifier.photograph(known.images[which], rng), known.labels[which]
    logits: Array = engine(images, digits)
    if link is Link.LOGIT:
        return np.asarray(expit(logits).astype(np.float32).astype(np.float64))
    _, safe = _engines()
    return np.asarray(logits - safe(images, digits))


def _learn_live(rng: Rng, link: Link) -> _Live:
    fast, _ = _engines()
    reference = Reference(values=_lively(link, fast, rng, _REFERENCE), link=link)
    return _Live(link=link, detector=LiveDetector(reference, _PROMISE, seed=int(rng.integers(2**31))))


PAIRS = {
    pairs.name: pairs
    for pairs in (
        Pairs(
            name="watchdog canaries",
            learn=lambda rng: _capture(rng, lambda logits: logits),
            reference=_CANARIES * _REPEATS,
            bound=1_000,
        ),
        Pairs(
            name="watchdog canaries (probability)",
            learn=lambda rng: _capture(rng, expit),
            reference=_CANARIES * _REPEATS,
            bound=1_000,
        ),
        Pairs(
            name="watchdog shadow pairs",
            learn=lambda rng: _learn_live(rng, Link.IDENTITY),
            reference=_REFERENCE,
            bound=5_000,
        ),
        Pairs(
            name="watchdog, unpaired",
            learn=lambda rng: _learn_live(rng, Link.LOGIT),
            reference=_REFERENCE,
            bound=5_000,
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Found:
    """What some runs came to."""

    delays: Mapping[str, Delays]
    """Fault → delays; run-ins are counted once, as all faults come after the same ones."""
    run_in: Quiet


@dataclass(frozen=True, kw_only=True)
class TakePairs:
    """Every fault after the same captures and run-ins, begun anew where an alarm came before."""

    pairs: str
    begin: int
    end: int
    """Runs."""
    seed: int

    def __call__(self) -> Found:
        pairs, quiet = PAIRS[self.pairs], Quiet()
        found: dict[str, list[int]] = {fault: [] for fault in FAULTS}
        for run in range(self.begin, self.end):
            for attempt in range(_ATTEMPTS):
                rng = generator(self.seed, "pairs", self.pairs, run, attempt)
                watch = pairs.learn(rng)
                state, alarm = _until_alarm(watch, watch.fresh(), watch.observe(_engines()[0], rng, RUN_IN))
                quiet += Quiet(observations=alarm or RUN_IN, alarms=int(alarm is not None))
                if alarm is None:
                    break
            else:
                continue
            for fault in FAULTS.values():
                of_fault = generator(self.seed, "pairs", self.pairs, run, fault.name)
                faulty = fault.strike(_engines()[0], of_fault, watch.digits)
                _, delay = _until_alarm(watch, deepcopy(state), watch.observe(faulty, of_fault, pairs.bound))
                found[fault.name].append(delay or -1)
        return Found(delays={name: _delays(each, pairs.bound) for name, each in found.items()}, run_in=quiet)


def _until_alarm(watch: Watch, state: Any, observations: Iterator[Any]) -> tuple[Any, int | None]:
    """The state, and how many observations the alarm took; None where none came."""
    for count, observed in enumerate(observations, 1):
        state, alarmed = watch.update(state, observed)
        if alarmed:
            return state, count
    return state, None


def together(found: Sequence[Mapping[str, Delays]]) -> dict[str, Delays]:
    """The delays of several tasks' runs."""
    return {
        fault: Delays(
            found=np.concatenate([one[fault].found for one in found]),
            missed=sum(one[fault].missed for one in found),
            bound=found[0][fault].bound,
            run_in=Quiet(),
        )
        for fault in FAULTS
    }


def _delays(found: Sequence[int], bound: int) -> Delays:
    every = np.array(found, dtype=np.int64)
    return Delays(found=every[every > 0], missed=int((every < 0).sum()), bound=bound, run_in=Quiet())


@dataclass(frozen=True, kw_only=True)
class CountPairs:
    """False alarms over so many observations, a few thousand after each capture."""

    pairs: str
    observations: int
    part: int
    seed: int

    def __call__(self) -> Quiet:
        rng, counted = generator(self.seed, "quiet pairs", self.pairs, self.part), Quiet()
        while counted.observations < self.observations:
            watch = PAIRS[self.pairs].learn(rng)
            state, count = watch.fresh(), min(_QUIET_RUN, self.observations - counted.observations)
            for observed in watch.observe(_engines()[0], rng, count):
                state, alarmed = watch.update(state, observed)
                counted += Quiet(observations=1, alarms=int(alarmed))
                if alarmed:
                    state = watch.fresh()
        return counted


@dataclass(frozen=True, kw_only=True)
class TakePairsCost:
    """For a quiet machine: never beside other work."""

    pairs: str
    observations: int
    seed: int

    def __call__(self) -> Cost:
        rng = generator(self.seed, "cost", self.pairs)
        shown = list(PAIRS[self.pairs].learn(rng).observe(_engines()[0], rng, self.observations))

        def fresh() -> Update:
            watch = PAIRS[self.pairs].learn(generator(self.seed, "cost", self.pairs))
            state = watch.fresh()

            def update(at: float) -> bool:
                nonlocal state
                state, alarmed = watch.update(state, shown[int(at)])
                return alarmed

            return update

        return take_cost(fresh, np.arange(self.observations))
