"""A real Triton that dies in the middle of a request, stays away, and comes back."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.endpoints.hostile import hang, relay, tcp_server
from tests.endpoints.kinds import Open, url_of
from tests.triton_fixture import Scale, write_scale_model
from watchdog.demo.triton import TritonServer, available
from watchdog.model.engine import Address, Description
from watchdog.model.fault import Blame, Fault, FaultKind
from watchdog.model.probe import InferRequest, Reply

pytestmark = pytest.mark.triton

SCALE = Address(endpoint="e", model="scale", version="1")
QUICK = InferRequest(address=SCALE, inputs={"X": np.ones((1, 3), np.float32)})
SLOW = InferRequest(address=SCALE, inputs={**QUICK.inputs, "SLEEP_S": np.full((1, 1), 30, np.float32)})


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    if (missing := available()) is not None:
        pytest.skip(missing)
    folder: Path = tmp_path_factory.mktemp("mortal")
    repository = write_scale_model(folder / "models", {1: Scale()})
    server = TritonServer(repository, folder / "work", models=["scale"])
    server.start()
    yield server
    server.kill()


async def test_a_server_that_dies_and_comes_back(mortal: TritonServer, kind: str, open_at: Open) -> None:
    endpoint = open_at(kind, url_of(mortal, kind))
    assert isinstance(await endpoint.infer(QUICK, 10), Reply)
    waiting = asyncio.create_task(endpoint.infer(SLOW, 10))
    await asyncio.sleep(0.1)  # whether it dies before or after the request arrives, the outcome is the same
    await asyncio.to_thread(mortal.kill)
    try:
        died = await waiting
        assert isinstance(died, Fault), died
        assert (died.kind, died.blame, died.retry) == (FaultKind.REFUSED, Blame.NETWORK, True)
        for call in (endpoint.infer(QUICK, 10), endpoint.describe(SCALE, 10), endpoint.statistics(SCALE, 10)):
            gone = await call
            assert isinstance(gone, Fault), gone
            assert (gone.kind, gone.blame) == (FaultKind.REFUSED, Blame.NETWORK)
    finally:
        await asyncio.to_thread(mortal.start)
    assert isinstance(await endpoint.infer(QUICK, 10), Reply)
    assert isinstance(await endpoint.describe(SCALE, 10), Description)


async def test_a_black_hole_does_not_outlive_its_connection(mortal: TritonServer, kind: str, open_at: Open) -> None:
    """A call hangs in a dead connection; those after it use a new one, though the first still waits."""
    holed = True

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (hang(reader, writer) if holed else relay(url_of(mortal, kind), reader, writer))

    async with tcp_server(talk) as url:
        endpoint = open_at(kind, url)
        patient = asyncio.create_task(endpoint.infer(QUICK, 60))
        hung = await endpoint.infer(QUICK, 0.2)
        assert isinstance(hung, Fault)
        assert hung.kind is FaultKind.TIMEOUT
        holed = False
        assert isinstance(answer := await endpoint.infer(QUICK, 10), Reply), answer
        assert not patient.done()
        patient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await patient
        await endpoint.close()


async def test_nobody_by_that_name(kind: str, open_at: Open) -> None:
    answer = await open_at(kind, "nobody.invalid:8000").infer(QUICK, 10)
    assert isinstance(answer, Fault)
    assert (answer.kind, answer.blame) == (FaultKind.REFUSED, Blame.NETWORK)
