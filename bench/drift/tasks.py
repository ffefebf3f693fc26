"""The pieces of work that a run consists of: each is named by words, so that any process can do it."""

from dataclasses import dataclass

from bench.drift import measure, oracle
from bench.drift.contestants import CONTESTANTS, STREAMS, terms
from bench.drift.measure import Delays, Quiet, generator
from bench.drift.subject import Cost, Subject, ToCalibrate


@dataclass(frozen=True, kw_only=True)
class AskOracle:
    stream: str
    change: str
    runs: int
    seed: int
    arl: float = oracle.ARL

    def __call__(self) -> oracle.Oracle:
        stream = STREAMS[self.stream]
        rng = generator(self.seed, "oracle", self.stream, self.change, self.arl)
        change = stream.changes[self.change]
        return oracle.ask(stream, change, rng, runs=self.runs, arl=self.arl, run_in=measure.RUN_IN)


@dataclass(frozen=True, kw_only=True)
class Calibrate:
    """Finds the threshold of one contestant."""

    detector: str
    stream: str
    size: int
    observations: int
    seed: int

    def __call__(self) -> float:
        contestant = CONTESTANTS[self.detector]
        assert isinstance(contestant, ToCalibrate)
        rng = generator(self.seed, "calibrate", self.detector, self.stream, self.size)
        return contestant.search(STREAMS[self.stream], self.size, self.observations, rng)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A detector, its threshold set, on a stream with references of one size."""

    detector: str
    stream: str
    size: int
    """0 for a detector that doesn't learn."""
    threshold: float | None
    """What was found; None where nothing is calibrated."""

    @property
    def subject(self) -> Subject:
        contestant = CONTESTANTS[self.detector]
        if not isinstance(contestant, ToCalibrate):
            return contestant
        assert self.threshold is not None
        return contestant.at(self.threshold)


@dataclass(frozen=True, kw_only=True)
class CountAlarms:
    case: Case
    streams: int
    length: int
    part: int
    seed: int

    def __call__(self) -> Quiet:
        return measure.quiet(
            self.case.subject,
            STREAMS[self.case.stream],
            self.case.size,
            streams=self.streams,
            length=self.length,
            seed=self.seed,
            part=self.part,
        )


@dataclass(frozen=True, kw_only=True)
class TakeDelays:
    case: Case
    change: str
    runs: int
    bound: int
    seed: int

    def __call__(self) -> Delays:
        stream = STREAMS[self.case.stream]
        return measure.delays(
            self.case.subject,
            stream,
            stream.changes[self.change],
            self.case.size,
            runs=self.runs,
            bound=self.bound,
            seed=self.seed,
            run_in=terms(self.case.detector).run_in,
        )


@dataclass(frozen=True, kw_only=True)
class TakeCost:
    """For a quiet machine: never beside other work."""

    case: Case
    observations: int
    seed: int

    def __call__(self) -> Cost:
        stream, rng = STREAMS[self.case.stream], generator(self.seed, "cost", self.case.stream)
        reference = stream.healthy(rng, (self.case.size,))
        return self.case.subject.cost(reference, stream.healthy(rng, (self.observations,)))
