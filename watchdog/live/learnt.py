"""What has been learnt of a healthy stream, and whose stream it was. Pure."""

import hashlib
import json
import random
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self

import numpy as np

from watchdog.drift.links import Link
from watchdog.drift.reference import Reference
from watchdog.model.engine import Engine, Role

_FORMAT = 1
_MOST_OF_A_STUDY = 64


class Unfit(StrEnum):
    """Why something that was learnt is not used."""

    ANOTHER_MODEL = "another-model"
    ANOTHER_ENGINE = "another-engine"
    """Another version or tag, of which the old answers say nothing."""
    ANOTHER_KIND = "another-kind"
    """The reading was of another kind: an output's kind was changed."""
    ANOTHER_REFERENCE = "another-reference"
    """A detector's state that belongs to another reference, promise or version of the watchdog."""
    DAMAGED = "damaged"
    NO_REFERENCE = "no-reference"
    """What was learnt makes no reference, such as a stream that never varies."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answering:
    """An engine as far as it can be told from another."""

    name: str
    """Its model and version at its server."""
    tag: str | None = None
    """None where nobody says it; that contradicts nothing."""

    @classmethod
    def of(cls, engine: Engine, tag: str | None) -> Self:
        return cls(name=f"{engine.address.model}/{engine.address.version}", tag=tag)

    def contradicts(self, other: Self) -> bool:
        return self.name != other.name or (self.tag != other.tag and None not in (self.tag, other.tag))


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """Whose answers are learnt."""

    model: str
    engines: Mapping[Role, Answering]

    def only(self, *roles: Role) -> "Subject":
        return replace(self, engines={role: self.engines[role] for role in roles})

    def unfit(self, now: "Subject") -> Unfit | None:
        """Why what was learnt of this subject says nothing of `now`; None where it does."""
        if self.model != now.model:
            return Unfit.ANOTHER_MODEL
        if self.engines.keys() != now.engines.keys():
            return Unfit.ANOTHER_ENGINE
        changed = any(engine.contradicts(now.engines[role]) for role, engine in self.engines.items())
        return Unfit.ANOTHER_ENGINE if changed else None

    def completed(self, other: "Subject") -> "Subject":
        """This, with the tags that only `other` knows."""
        known = {r: e if e.tag is not None else replace(e, tag=other.engines[r].tag) for r, e in self.engines.items()}
        return replace(self, engines=known)


class Sample:
    """A reading's values, study by study, in the order in which they came."""

    def __init__(self) -> None:
        self._values = array("d")
        self._sizes = array("I")
        self._chance = random.Random(0)  # noqa: S311 - a sample, no secret

    def __len__(self) -> int:
        """In observations, that is studies."""
        return len(self._sizes)

    def add(self, values: Sequence[float]) -> None:
        """One more study; of very many slices, 64 at random stand for all."""
        kept = values if len(values) <= _MOST_OF_A_STUDY else self._chance.sample(values, _MOST_OF_A_STUDY)
        self._values.extend(kept)
        self._sizes.append(len(kept))

    def means(self) -> list[float]:
        """A number for each study."""
        if not self._sizes:
            return []
        ends = np.cumsum(self._sizes)
        return [float(study.mean()) for study in np.split(np.array(self._values), ends[:-1])]

    def reference(self, link: Link) -> Reference:
        """Raises ValueError: it makes none, such as a stream that never varies."""
        studies = np.repeat(np.arange(len(self._sizes)), self._sizes)
        return Reference(values=np.array(self._values), studies=studies, link=link)

    def to_bytes(self) -> bytes:
        return np.array(self._sizes, dtype="<u4").tobytes() + np.array(self._values, dtype="<f8").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, observations: int) -> Self:
        """Raises ValueError: the bytes are not those of so many observations."""
        sample, split = cls(), 4 * observations
        sizes = np.frombuffer(data[:split], dtype="<u4")
        values = np.frombuffer(data[split:], dtype="<f8")
        if len(sizes) != observations or int(sizes.sum()) != len(values) or not np.all(sizes):
            raise ValueError("the numbers of values and studies don't fit")
        sample._sizes.extend(sizes.tolist())
        sample._values.extend(values.tolist())
        return sample


@dataclass(frozen=True, kw_only=True, slots=True)
class Learnt:
    """A sample, and whose it is, as it is kept."""

    subject: Subject
    link: Link
    sample: Sample

    def unfit(self, now: Subject, link: Link) -> Unfit | None:
        """Why it can't be used; None if it can."""
        return self.subject.unfit(now) or (Unfit.ANOTHER_KIND if self.link is not link else None)

    def to_bytes(self) -> bytes:
        engines = {role: {"name": e.name, "tag": e.tag} for role, e in self.subject.engines.items()}
        head = {
            "format": _FORMAT,
            "model": self.subject.model,
            "engines": engines,
            "link": self.link,
            "observations": len(self.sample),
        }
        return json.dumps(head).encode() + b"\n" + self.sample.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises ValueError: the bytes are no such thing."""
        head, _, body = data.partition(b"\n")
        try:
            parsed: Any = json.loads(head)
            if parsed["format"] != _FORMAT:
                raise ValueError(f"its format is {parsed['format']}, this watchdog knows {_FORMAT}")
            engines = {Role(r): Answering(name=e["name"], tag=e["tag"]) for r, e in parsed["engines"].items()}
            return cls(
                subject=Subject(model=parsed["model"], engines=engines),
                link=Link(parsed["link"]),
                sample=Sample.from_bytes(body, int(parsed["observations"])),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"what was learnt can't be read: {type(error).__name__} at {error}") from error


def fingerprint(sample: Sample) -> bytes:
    """32 bytes that tell one sample from another."""
    return hashlib.sha256(sample.to_bytes()).digest()
