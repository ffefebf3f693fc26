"""Sets a detector's threshold so that false alarms are as rare as wanted, by simulation of the quiet stream.

No user can do this: it takes a hundred times more healthy observations than a reference has. It gives
other people's detectors the best case, at a known rate of false alarms.
"""

from collections.abc import Callable
from dataclasses import dataclass

from bench.drift.streams import Rng, Stream
from bench.drift.subject import Subject

_LENGTH = 20_000
"""Observations after each reference."""
_STEPS = 10


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """A detector with one threshold: the higher, the rarer are alarms."""

    name: str
    arl: float
    """Observations to a false alarm, in the mean, all references taken together."""
    at: Callable[[float], Subject]
    between: tuple[float, float]
    """Where the threshold is looked for."""
    learns: bool = True

    def search(self, stream: Stream, size: int, observations: int, rng: Rng, /) -> float:
        """Bisects, on the same references and streams throughout.

        The rate is that of all references together: the mean of their run lengths would be ruled by the
        few references on which alarms happen to be rare.
        """
        count = max(1, observations // _LENGTH)
        references, streams = stream.healthy(rng, (count, size)), stream.healthy(rng, (count, _LENGTH))
        allowed = streams.size / self.arl
        low, high = self.between
        for _ in range(_STEPS):
            middle = (low + high) / 2
            if self.at(middle).count_alarms(references, streams, rng) > allowed:
                low = middle
            else:
                high = middle
        return (low + high) / 2
