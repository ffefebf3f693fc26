"""Real servers for watchdogs that are killed, and what an operator or a client does with them."""

import asyncio
import http.client
import json
import py_compile
import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import yaml

from bench.gateways import KINDS, MODEL, Way
from bench.two_engines import TwoEngines
from watchdog import config
from watchdog.config import ModelSettings
from watchdog.model.engine import Role
from watchdog.routers import means_of, open_router

_IN_STEPS = {
    "steps": [50, 100],
    "step_for": "1ms",
    "recovery": {"after": "1ms", "prove_for": "1ms", "probation": "1ms", "attempts": 100},
}
"""As fast as probes go."""
_IMAGE = {"name": "CT", "shape": [1, 1, 1, 1], "datatype": "FP32", "data": [400.0]}
_RIGHT = [1.0]
"""What that image must be answered with."""
_ASK_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An ordinary request's."""

    version: int
    right: bool


class Stage:
    """Triton and the gateways that can run here, one after the other in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.ways: dict[str, Way] = {}
        """By the kind of router."""
        self.left_out: dict[str, str] = {}
        """Kinds of routers that can't be tried here, and why."""
        self.folder = folder
        self._engines = TwoEngines(folder)
        _hasten(folder / "models")
        self._models: dict[str, ModelSettings] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            self._stack.enter_context(self._engines.server)
            for kind in KINDS:
                if kind.missing:
                    self.left_out[kind.name] = kind.missing
                    continue
                place = self.folder / f"way-{kind.name}"
                place.mkdir()
                self.ways[kind.name] = self._stack.enter_context(kind.open(self._engines.server, place))
            self._engines.prepare()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def configure(self, kind: str, *, in_steps: bool = False) -> Path:
        """The configuration of a watchdog with that router, at whose cadence nothing is left to the clock."""
        way = self.ways[kind]
        path = self._engines.configure(f"{kind}{'-in-steps' * in_steps}", way.address, router=way.router)
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        document["gpu"] = None
        document["endpoints"][0] = {"name": "triton", "kind": "triton-grpc", "url": self._engines.server.grpc_url}
        (model,) = document["models"]
        model["probe"]["proof_within"] = "20ms"  # for as long a wrong engine is asked again, each time it is promoted
        model["policy"] |= {"max_switches_per_day": 1000} | (_IN_STEPS if in_steps else {})
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        return path

    def is_weighted(self, kind: str) -> bool:
        router = self._model(kind).router
        return router is not None and means_of(router).weighted

    def tell(self, *, fast_is_wrong: bool) -> None:
        """How the fast engine answers from its next request on."""
        if fast_is_wrong:
            self._engines.spoil()
        else:
            self._engines.heal()

    def move(self, kind: str, role: Role) -> None:
        """Give all ordinary traffic to one engine, as an operator would.

        Raises:
            RuntimeError: it could not be done.
        """
        asyncio.run(_move(self._model(kind), role))

    def ask(self, kind: str) -> Answer | None:
        """An ordinary answer; None where there is none."""
        connection = http.client.HTTPConnection(self.ways[kind].address, timeout=_ASK_S)
        try:
            connection.request("POST", f"/v2/models/{MODEL}/infer", json.dumps({"inputs": [_IMAGE]}))
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        if response.status != http.client.OK:
            return None
        document = json.loads(body)
        return Answer(version=int(document["model_version"]), right=document["outputs"][0]["data"] == _RIGHT)

    def _model(self, kind: str) -> ModelSettings:
        if kind not in self._models:
            (self._models[kind],) = config.read(self.configure(kind)).models
        return self._models[kind]


def _hasten(models: Path) -> None:
    """Take the pause out of the model: speed is not the matter here, and most of the time would go into it."""
    for source in models.glob("*/*/model.py"):
        text = re.sub(r"^DEVICE_S = .*$", "DEVICE_S = 0.0", source.read_text(encoding="utf-8"), flags=re.MULTILINE)
        source.write_text(text, encoding="utf-8")
        py_compile.compile(str(source), doraise=True)  # bytecode that comes later means a rebuild


async def _move(model: ModelSettings, role: Role) -> None:
    assert model.router is not None
    router = open_router(model.router, {each: model.engine(each).address for each in Role})
    applied = await router.apply(role)
    await router.close()
    if not applied.ok:
        raise RuntimeError(f"the {model.router.kind} router can't be brought to {role}: {applied.detail}")
