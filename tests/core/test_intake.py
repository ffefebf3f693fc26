"""What others report of patients' answers, over real sockets: taken, grouped, compared, and not kept."""

import asyncio
import gc
import gzip
import io
import json
import math
import random
import weakref
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.core.builders import ENGINES, MODEL, OUTPUT, PUBLIC, FakeEndpoint, World, settings
from tests.core.live_world import ENOUGH, StandIn, Ward
from tests.core.test_api import FakeService
from tests.core.virtual_time import in_virtual_time, now
from watchdog.api import intake as intake_routes
from watchdog.api.oip_request import WrongBodyError, decode
from watchdog.api.server import create
from watchdog.api.service import Intake, NoSuchModelError
from watchdog.endpoints import oip_http, triton_http
from watchdog.endpoints.http_server import Body
from watchdog.live import Feed, LiveSettings, Mirrored, Shadow, ShadowSettings, Slice
from watchdog.model.engine import Role
from watchdog.model.event import Source
from watchdog.model.fault import Fault
from watchdog.model.observation import Pair
from watchdog.model.probe import InferRequest, Reply
from watchdog.model.tensor import DTYPES, Array
from watchdog.prober import Target
from watchdog.transport import serve

OBSERVATIONS = f"/api/v1/models/{MODEL}/observations"
PAIRS = f"/api/v1/models/{MODEL}/pairs"
MIRROR = f"/v2/models/{MODEL}/infer"
IMAGE = np.full((2, 8), 0.25, dtype=np.float32)


class Gated(FakeEndpoint):
    """Answers once the gate is open."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.gate = asyncio.Event()
        self.gate.set()

    async def infer(self, request: InferRequest, timeout_s: float) -> Reply | Fault:
        await self.gate.wait()
        return await super().infer(request, timeout_s)


async def eventually(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not happened():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.005)


@dataclass(kw_only=True)
class Hospital:
    """One model's feed, and the two engines that it asks."""

    world: World = field(default_factory=World)
    ward: Ward = field(default_factory=Ward)
    shadow: ShadowSettings | None = field(default_factory=lambda: ShadowSettings(rate=1.0, reference=ENOUGH))
    live: LiveSettings | None = field(default_factory=lambda: LiveSettings(reference=ENOUGH))

    def __post_init__(self) -> None:
        self.endpoint = Gated(self.world)
        self.feed = self.make_feed()

    def make_feed(self) -> Feed:
        watch = self.ward.watch(readings=(OUTPUT,), live=self.live, shadow=self.shadow, build=StandIn)
        target = Target(model=MODEL, engines=ENGINES, public=PUBLIC, endpoints={"e": self.endpoint}, deadline_s=2.0)
        if self.shadow is None:
            return Feed(watch)
        shadow = Shadow(
            target=target,
            outputs=settings().outputs,
            batched=True,
            settings=self.shadow,
            take=watch.take_pairs,
            observe=self.ward.events.append,
            clock=now,
            chance=random.Random(3),
        )
        return Feed(watch, shadow)

    def status(self, source: str = "live") -> dict[str, Any]:
        found: dict[str, Any] = self.feed.status()[source][OUTPUT]
        return found

    async def idle(self, pairs: int) -> None:
        """Until so many mirrored requests were compared, or came to nothing."""
        await eventually(
            lambda: self.status("shadow")["have"] + len(self.ward.ignored()) + len(self.ward.errors()) >= pairs
        )


class IntakeService(FakeService):
    def __init__(self, hospital: Hospital) -> None:
        super().__init__()
        self.the_token = None
        self.hospital = hospital

    def intake(self, model: str, *, served: bool = False) -> Feed:
        if model == MODEL or (served and model == "served-name"):
            return self.hospital.feed
        raise NoSuchModelError(f"no model {model!r} is watched; there are: {MODEL}")


@asynccontextmanager
async def running(
    hospital: Hospital | None = None, token: str | None = "secret", *, sends: bool = True
) -> AsyncIterator[tuple[Hospital, aiohttp.ClientSession]]:
    hospital = hospital or Hospital()
    service = IntakeService(hospital)
    service.the_token = token
    runner, url = await serve(create(service), "127.0.0.1:0")
    hospital.feed.start()
    try:
        headers = {"Authorization": f"Bearer {token}"} if sends else {}
        async with aiohttp.ClientSession(url, headers=headers, timeout=aiohttp.ClientTimeout(total=20)) as client:
            yield hospital, client
    finally:
        await hospital.feed.close()
        await runner.cleanup()


async def post(
    client: aiohttp.ClientSession, path: str, body: Any, headers: Mapping[str, str] | None = None
) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with client.post(path, data=io.BytesIO(data), headers=headers) as response:
        return response.status, await response.json()


def readings(*values: Any, study: str | None = None) -> list[dict[str, Any]]:
    more = {} if study is None else {"study": study}
    return [{"readings": {OUTPUT: value}} | more for value in values]


# -- observations and pairs --------------------------------------------------------------------


async def test_observations_are_taken_each_and_what_is_no_number_is_counted() -> None:
    async with running() as (hospital, client):
        body = {"observations": readings(0.1, [0.2, 0.3], None, 7)}
        assert await post(client, OBSERVATIONS, body) == (202, {"taken": 4})
        assert hospital.status()["have"] == 2
        assert hospital.status()["ignored"] == {"non-finite": 1, "out-of-range": 1}
        bare = b'{"observations": [{"readings": {"p": NaN}}, {"readings": {"p": 1' + b"0" * 400 + b"}}]}"
        assert (await post(client, OBSERVATIONS, bare))[0] == 202
        assert hospital.status()["ignored"] == {"non-finite": 3, "out-of-range": 1}
        assert await post(client, OBSERVATIONS, {"observations": []}) == (202, {"taken": 0})


async def test_a_studys_slices_count_once_across_requests() -> None:
    async with running() as (hospital, client):
        await post(client, OBSERVATIONS, {"observations": readings(0.1, 0.2, study="a")})
        await post(client, OBSERVATIONS, {"observations": readings(0.9, study="b") + readings(0.3, study="a")})
        assert hospital.status()["have"] == 0
    assert hospital.status()["have"] == 2  # closing ends the studies
    kept = b"".join(hospital.ward.evidence.blobs.values())
    assert b"study" not in kept
    assert not any("'a'" in repr(event) for event in hospital.ward.events)


async def test_pairs_are_taken_each() -> None:
    async with running() as (hospital, client):
        body = {
            "pairs": [{"fast": {OUTPUT: 0.6}, "safe": {OUTPUT: 0.5}}, {"fast": {OUTPUT: None}, "safe": {OUTPUT: 1}}]
        }
        assert await post(client, PAIRS, body) == (202, {"taken": 2})
        assert (hospital.status("shadow")["have"], hospital.status("shadow")["ignored"]) == (1, {"non-finite": 1})


@in_virtual_time
async def test_a_silent_study_is_over_after_half_a_minute() -> None:
    hospital = Hospital()
    feed = hospital.feed
    feed.start()
    await feed.observe([Slice(study="a", readings={OUTPUT: (0.1,)})])
    await asyncio.sleep(20)
    await feed.observe([Slice(study="a", readings={OUTPUT: (0.2,)})])
    await asyncio.sleep(29)
    assert hospital.status()["have"] == 0
    await asyncio.sleep(7)
    assert hospital.status()["have"] == 1
    await feed.observe([Slice(study="a", readings={OUTPUT: (0.3,)})])
    await feed.close()
    assert hospital.status()["have"] == 2


WRONG: list[tuple[str, bytes, str]] = [
    (OBSERVATIONS, b"{", "the body is not JSON (line 1, column 2)"),
    (OBSERVATIONS, b"\xff\xfe", "the body is not JSON"),
    (OBSERVATIONS, b"[" * 20_000, "the body is not JSON"),
    (OBSERVATIONS, b"[]", "the body must be a JSON object"),
    (OBSERVATIONS, b"{}", "observations: must be a list"),
    (OBSERVATIONS, b'{"observations": [], "x": 1}', "'x' is unknown; there are observations"),
    (OBSERVATIONS, b'{"observations": [3]}', "observations[0]: must be an object"),
    (OBSERVATIONS, b'{"observations": [{}]}', "observations[0].readings: must be an object with one or more of p"),
    (OBSERVATIONS, b'{"observations": [{"readings": {}}]}', "observations[0].readings: must be an object"),
    (
        OBSERVATIONS,
        b'{"observations": [{"readings": {"q": 1}}]}',
        "observations[0].readings: 'q' is unknown; there are p",
    ),
    (OBSERVATIONS, b'{"observations": [{"readings": {"p": "1"}}]}', "observations[0].readings.p: must be a number"),
    (OBSERVATIONS, b'{"observations": [{"readings": {"p": true}}]}', "observations[0].readings.p: must be a number"),
    (OBSERVATIONS, b'{"observations": [{"readings": {"p": []}}]}', "readings.p: must be a number, or a list of 1 to"),
    (
        OBSERVATIONS,
        b'{"observations": [{"readings": {"p": [1, []]}}]}',
        "observations[0].readings.p[1]: must be a number",
    ),
    (OBSERVATIONS, b'{"observations": [{"readings": {"p": 1}, "study": 5}]}', "observations[0].study: must be a text"),
    (OBSERVATIONS, b'{"observations": [{"readings": {"p": 1}, "study": ""}]}', "observations[0].study: must be a text"),
    (OBSERVATIONS, b'{"observations": [{"readings": {"p": 1}, "patient": "x"}]}', "'patient' is unknown"),
    (PAIRS, b'{"pairs": {}}', "pairs: must be a list"),
    (PAIRS, b'{"pairs": [{"fast": {"p": 1}}]}', "pairs[0].safe: must be an object"),
    (PAIRS, b'{"pairs": [{"fast": {"p": [1]}, "safe": {"p": 1}}]}', "pairs[0].fast.p: must be a number"),
    (MIRROR, b"{", "the body is not JSON"),
    (MIRROR, b"{}", "inputs: must be a list of at least one tensor"),
    (MIRROR, b'{"inputs": [7]}', "inputs[0]: must be an object"),
    (MIRROR, b'{"inputs": [{"shape": [1]}]}', "inputs[0].name: must be a text"),
    (MIRROR, b'{"inputs": [{"name": "x"}]}', "inputs[0].shape: must be a list"),
    (MIRROR, b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP99"}]}', "inputs[0]: has an unknown datatype"),
    (
        MIRROR,
        b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32"}]}',
        "inputs[0]: has neither data nor binary",
    ),
    (MIRROR, b'{"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1]}]}', "inputs[0]: 1 values for"),
    (MIRROR, b'{"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}', "inputs[0]: is BYTES"),
]


@pytest.mark.parametrize(("path", "body", "says"), WRONG)
async def test_a_wrong_body_is_refused_with_the_path_to_the_field(path: str, body: bytes, says: str) -> None:
    async with running() as (hospital, client):
        status, answer = await post(client, path, body)
        assert (status, set(answer)) == (400, {"error"})
        assert says in answer["error"]
        assert "output" not in answer["error"].replace("outputs", "")
        assert hospital.status()["have"] == 0
        good = {"pairs": [{"fast": {OUTPUT: 0.6}, "safe": {OUTPUT: 0.5}}]}
        assert (await post(client, PAIRS, good))[0] == 202


async def test_a_pair_must_have_the_same_readings_on_both_sides() -> None:
    hospital = Hospital()
    hospital.feed = Feed(hospital.ward.watch(readings=("p", "q")))
    async with running(hospital) as (_, client):
        status, answer = await post(client, PAIRS, {"pairs": [{"fast": {"p": 1, "q": 1}, "safe": {"p": 1}}]})
        assert (status, answer["error"]) == (400, "pairs[0].safe: lacks q, which the other side has")


@pytest.mark.parametrize(
    ("path", "size"),
    [(OBSERVATIONS, 2**20 + 1), (PAIRS, 2**20 + 1), (MIRROR, 16 * 2**20 + 1)],
)
async def test_a_body_too_large_is_refused_announced_or_not(path: str, size: int) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(size // 2**16 + 1):
            yield b" " * 2**16

    async with running() as (_, client):
        assert (await post(client, path, b" " * size))[0] == 413
        async with client.post(path, data=chunks()) as response:
            assert response.status == 413


async def test_a_compressed_body_is_read_within_the_same_limits() -> None:
    good = gzip.compress(json.dumps({"observations": readings(0.2)}).encode())
    bomb = gzip.compress(b" " * (2**20 + 1))
    for body, wanted in ((good, 202), (bomb, 413), (b"garbage", 400)):
        async with running() as (_, client):
            assert (await post(client, OBSERVATIONS, body, {"Content-Encoding": "gzip"}))[0] == wanted


@pytest.mark.parametrize("path", [OBSERVATIONS, PAIRS, MIRROR, f"/v2/models/{MODEL}/versions/3/infer"])
async def test_the_token_is_needed_where_there_is_one(path: str) -> None:
    async with running(sends=False) as (hospital, client):
        assert (await post(client, path, b"{}"))[0] == 401
        assert (await post(client, path, b"{}", {"Authorization": "Bearer wrong"}))[0] == 401
        assert (await post(client, path, b"{}", {"Authorization": "Bearer secret"}))[0] == 400
        assert hospital.ward.events == []


async def test_what_is_not_there_or_not_configured_is_named() -> None:
    hospital = Hospital(shadow=None)
    async with running(hospital) as (_, client):
        status, answer = await post(client, "/api/v1/models/other/observations", {"observations": []})
        assert (status, answer["error"]) == (404, "no model 'other' is watched; there are: nodule")
        for path in (PAIRS, MIRROR):
            status, answer = await post(client, path, b"{}")
            assert status == 409
            assert "`drift.shadow: {}`" in answer["error"]
    async with running(Hospital(live=None)) as (_, client):
        status, answer = await post(client, OBSERVATIONS, b"{}")
        assert status == 409
        assert "`drift.live: {}`" in answer["error"]


async def test_a_servers_own_name_is_for_mirrored_requests_alone() -> None:
    async with running() as (_, client):
        assert (await mirrored(client, a_request(), "/v2/models/served-name/infer"))[0] == 202
        assert (await post(client, "/api/v1/models/served-name/observations", {"observations": []}))[0] == 404


async def test_without_a_token_claims_are_off_as_commands_are_and_the_rest_is_open() -> None:
    async with running(token=None, sends=False) as (_, client):
        assert (await post(client, OBSERVATIONS, {"observations": []}))[0] == 202
        assert (await mirrored(client, a_request()))[0] == 202
        assert (await post(client, PAIRS, {"pairs": []}))[0] == 403


async def test_commands_are_still_commands() -> None:
    async with running(token=None, sends=False) as (_, client):
        status, answer = await post(client, f"/api/v1/models/{MODEL}/hold", b"")
        assert (status, answer["error"]) == (403, "commands are off: set api.token.file in the configuration")
        async with client.get(OBSERVATIONS) as response:
            assert (response.status, response.headers["Allow"]) == (405, "POST")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
VALUE = JSON | st.floats() | st.lists(st.floats() | st.none() | st.integers(), max_size=4)
SIDE = JSON | st.dictionaries(st.sampled_from([OUTPUT, "q"]), VALUE, max_size=2)
ENTRY = JSON | st.fixed_dictionaries({}, optional={"readings": SIDE, "study": JSON, "fast": SIDE, "safe": SIDE})


@given(body=JSON | st.fixed_dictionaries({"observations": JSON | st.lists(ENTRY, max_size=3)}))
def test_any_json_is_slices_or_a_wrong_body(body: Any) -> None:
    def parse(entry: Any, path: str) -> Slice:
        return intake_routes._slice(entry, path, known=(OUTPUT,))

    try:
        slices = intake_routes._entries(json.dumps(body).encode(), "observations", parse)
    except WrongBodyError:
        pass
    else:
        assert all(set(each.readings) == {OUTPUT} for each in slices)
        assert all(isinstance(value, float) for each in slices for value in each.readings[OUTPUT])


@given(body=JSON | st.fixed_dictionaries({"pairs": JSON | st.lists(ENTRY, max_size=3)}))
def test_any_json_is_pairs_or_a_wrong_body(body: Any) -> None:
    try:
        pairs = intake_routes._entries(
            json.dumps(body).encode(),
            "pairs",
            lambda entry, path: intake_routes._pair(entry, path, known=(OUTPUT, "q")),
        )
    except WrongBodyError:
        pass
    else:
        assert all(pair.fast.keys() == pair.safe.keys() for pair in pairs)


# -- the mirror ----------------------------------------------------------------------------------

ENCODERS: dict[str, Callable[[InferRequest], Body]] = {
    "json": oip_http._plain,
    "binary": oip_http._binary,
    "triton": triton_http._encode,
}


def a_request(encoding: str = "binary", inputs: Mapping[str, Array] | None = None, id: str = "") -> Body:  # noqa: A002
    """A client's request, by the project's own codec."""
    request = InferRequest(address=PUBLIC, inputs={"x": IMAGE} if inputs is None else inputs, outputs=(OUTPUT,), id=id)
    return ENCODERS[encoding](request)


async def mirrored(client: aiohttp.ClientSession, body: Body, path: str = MIRROR) -> tuple[int, Any]:
    headers = {"Content-Type": body.content_type}
    if body.json_length is not None:
        headers["Inference-Header-Content-Length"] = str(body.json_length)
    return await post(client, path, body.content, headers)


@pytest.mark.parametrize("encoding", ENCODERS)
@pytest.mark.parametrize("path", [MIRROR, f"/v2/models/{MODEL}/versions/7/infer"])
async def test_a_mirrored_request_is_asked_of_both_engines_as_it_was(encoding: str, path: str) -> None:
    asked: list[InferRequest] = []
    hospital = Hospital(world=World(on_infer=asked.append))
    image = np.random.default_rng(1).random((2, 8), dtype=np.float32)
    async with running(hospital) as (_, client):
        assert await mirrored(client, a_request(encoding, {"x": image}), path) == (202, {})
        await hospital.idle(1)
    assert {request.address for request in asked} == {ENGINES[role].address for role in Role}
    for request in asked:
        np.testing.assert_array_equal(request.inputs["x"], image)
        assert request.outputs == (OUTPUT,)
        assert request.id.startswith("watchdog-shadow-")
    assert hospital.status("shadow")["have"] == 1  # two rows, one observation


@given(
    arrays=st.lists(
        st.sampled_from(sorted(DTYPES)).flatmap(
            lambda name: hnp.arrays(DTYPES[name], hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
        ),
        min_size=1,
        max_size=3,
    ),
    encoding=st.sampled_from(["binary", "triton"]),
)
def test_every_tensor_that_a_client_can_send_arrives(arrays: list[Array], encoding: str) -> None:
    sent = {f"x{i}": np.ascontiguousarray(array) for i, array in enumerate(arrays)}
    body = a_request(encoding, sent, id="mine")
    got = decode(body.content, str(body.json_length))
    assert got.id == "mine"
    assert list(got.inputs) == list(sent)
    for name, array in sent.items():
        assert got.inputs[name].dtype == array.dtype
        np.testing.assert_array_equal(got.inputs[name], array.reshape(got.inputs[name].shape))


def tensor(**more: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [1], "datatype": "UINT8"} | more


@pytest.mark.parametrize(
    ("inputs", "raw", "says"),
    [
        ([tensor(data=[1]), tensor(data=[1])], b"", "inputs[1].name: comes twice"),
        ([tensor(data=[1])], b"left over", "9 bytes too many after the inputs"),
        (
            [tensor(parameters={"binary_data_size": 2})],
            b"1",
            "inputs[0].parameters.binary_data_size: must be a number of",
        ),
        ([tensor(parameters={"binary_data_size": 2})], b"12", "inputs[0]: 2 bytes for shape [1] of UINT8"),
        ([tensor(shape=[0, 10**30], data=[])], b"", "inputs[0]: makes no tensor"),
        ([tensor(shape=[1] * 100, data=[1])], b"", "inputs[0]: makes no tensor"),
        ([tensor(shape=[-1], data=[1])], b"", "inputs[0]: has an impossible shape"),
        ([tensor(shape=[2], data=[[1], [1, 2]])], b"", "inputs[0]: the data is ragged"),
        ([tensor(data=[10**400])], b"", "inputs[0]: the data holds values that are no uint8"),
    ],
)
def test_what_is_no_tensor_is_told_by_its_place(inputs: Any, raw: bytes, says: str) -> None:
    head = json.dumps({"inputs": inputs}).encode()
    with pytest.raises(WrongBodyError) as caught:
        decode(head + raw, str(len(head)))
    assert str(caught.value).startswith(says)


@given(body=st.binary(max_size=80), header_length=st.none() | st.text(max_size=6) | st.integers().map(str))
def test_any_bytes_are_no_request(body: bytes, header_length: str | None) -> None:
    with pytest.raises(WrongBodyError):
        decode(body, header_length)


TENSOR = JSON | st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from("xy") | JSON,
        "shape": st.lists(st.integers(-1, 3), max_size=3) | JSON,
        "datatype": st.sampled_from([*DTYPES, "BYTES"]) | JSON,
        "data": VALUE | st.lists(VALUE, max_size=3),
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 12) | JSON}) | JSON,
    },
)


@given(inputs=JSON | st.lists(TENSOR, max_size=3), raw=st.binary(max_size=24), split=st.booleans(), said=JSON)
def test_any_json_is_a_request_or_a_wrong_body(inputs: Any, raw: bytes, split: bool, said: Any) -> None:
    head = json.dumps({"inputs": inputs, "id": said}).encode()
    try:
        got = decode(head + raw if split else head, str(len(head)) if split else None)
    except WrongBodyError:
        pass
    else:
        assert got.inputs
        assert all(array.dtype in DTYPES.values() for array in got.inputs.values())


async def test_only_a_share_is_taken_and_the_rest_is_not_even_read() -> None:
    hospital = Hospital(shadow=ShadowSettings(rate=0.25, reference=ENOUGH, queue=1024))
    async with running(hospital) as (_, client):
        answers = [await post(client, MIRROR, b"no request at all " * 5000) for _ in range(200)]
        taken = [status for status, _ in answers if status == 400]
        assert {status for status, _ in answers} == {202, 400}
        assert 30 <= len(taken) <= 70
        assert hospital.world.log == []


async def test_the_watchdogs_own_requests_are_not_patients() -> None:
    async with running() as (hospital, client):
        for own in ("watchdog-0000000000000001", "watchdog-shadow-1"):
            assert await mirrored(client, a_request(id=own)) == (202, {})
        await mirrored(client, a_request(id="patient"))
        await hospital.idle(1)
        assert hospital.world.asked("infer")[0][0] == "infer"
        assert len(hospital.world.asked("infer")) == 2


async def test_a_full_queue_drops_and_counts_and_a_wrong_body_takes_no_place() -> None:
    hospital = Hospital(shadow=ShadowSettings(rate=1.0, reference=ENOUGH, queue=3))
    async with running(hospital) as (_, client):
        for _ in range(10):
            assert (await post(client, MIRROR, b"{"))[0] == 400
        hospital.endpoint.gate.clear()
        await mirrored(client, a_request())  # this one is being asked
        await asyncio.sleep(0.05)
        for _ in range(5):
            assert await mirrored(client, a_request()) == (202, {})
        assert hospital.ward.ignored() == [("shadow", "", "queue-full", 1)] * 2
        hospital.endpoint.gate.set()
        await hospital.idle(6)
        assert hospital.status("shadow")["have"] == 4


@pytest.mark.parametrize(
    ("fast", "condition"), [("refuse", "no-answer"), ("impostor", "wrong-version"), ("nan", "non-finite")]
)
async def test_an_engine_without_a_usable_answer_makes_no_pair(fast: str, condition: str) -> None:
    async with running(Hospital(world=World(fast=fast))) as (hospital, client):
        await mirrored(client, a_request())
        await hospital.idle(1)
        assert [each[2] for each in hospital.ward.ignored()] == [condition]
        assert hospital.status("shadow")["have"] == 0


async def test_a_bug_in_an_adapter_does_not_end_the_comparing() -> None:
    async with running(Hospital(world=World(fast="raise"))) as (hospital, client):
        await mirrored(client, a_request())
        await hospital.idle(1)
        hospital.world.fast = "right"
        await mirrored(client, a_request())
        await hospital.idle(2)
        assert hospital.ward.errors() == ["shadow: ZeroDivisionError: a bug in the adapter"]
        assert hospital.status("shadow")["have"] == 1


async def test_answers_with_different_rows_make_no_pair() -> None:
    class Ragged(Gated):
        async def infer(self, request: InferRequest, timeout_s: float) -> Reply | Fault:
            answer = await super().infer(request, timeout_s)
            if isinstance(answer, Reply) and request.address == ENGINES[Role.FAST].address:
                return Reply(
                    outputs={OUTPUT: answer.outputs[OUTPUT][:1]}, answered_by=answer.answered_by, timing=answer.timing
                )
            return answer

    hospital = Hospital()
    hospital.endpoint = Ragged(hospital.world)
    hospital.feed = hospital.make_feed()
    async with running(hospital) as (_, client):
        await mirrored(client, a_request())
        await hospital.idle(1)
        assert [each[2] for each in hospital.ward.ignored()] == ["rows-differ"]


async def test_an_image_is_in_memory_only_until_both_engines_have_answered() -> None:
    seen: list[weakref.ref[Array]] = []
    hospital = Hospital(world=World(on_infer=lambda request: seen.append(weakref.ref(request.inputs["x"]))))
    async with running(hospital) as (_, client):
        hospital.endpoint.gate.clear()
        for _ in range(3):
            await mirrored(client, a_request())
        hospital.endpoint.gate.set()
        await hospital.idle(3)
        await asyncio.sleep(0.05)
        gc.collect()
        assert len(seen) == 6
        assert [image() for image in seen] == [None] * 6
    assert not any(IMAGE.tobytes() in blob for blob in hospital.ward.evidence.blobs.values())


async def test_a_fault_of_the_fast_engine_is_found_in_the_mirror_alone() -> None:
    """End to end: learnt from healthy pairs, then the fast engine answers 0.5 whatever it is shown."""
    rng = np.random.default_rng(5)
    hospital = Hospital()

    def image() -> Array:
        return np.full((1, 8), rng.uniform(0.05, 0.2), dtype=np.float32)

    async with running(hospital) as (_, client):
        pairs = [
            {"fast": {OUTPUT: float(p + 1e-4 * rng.normal())}, "safe": {OUTPUT: float(p)}}
            for p in rng.uniform(0.05, 0.3, ENOUGH)
        ]
        await post(client, PAIRS, {"pairs": pairs})
        assert hospital.status("shadow")["state"] == "watching"
        hospital.world.fast = "flat"
        for _ in range(12):
            await mirrored(client, a_request(inputs={"x": image()}))
            await asyncio.sleep(0.02)
        await eventually(lambda: bool(hospital.ward.alarms))
    assert hospital.ward.alarms[0].source is Source.SHADOW
    assert math.isfinite(hospital.ward.alarms[0].score.statistic)


def test_a_feed_is_what_the_routes_need() -> None:
    feed: Intake = Hospital().feed
    assert feed.sources == {Source.LIVE, Source.SHADOW}
    assert feed.readings == (OUTPUT,)


async def test_where_answers_have_drifted_the_next_requests_are_all_compared() -> None:
    async def take(pairs: Sequence[Pair], *, as_one: bool = False) -> None: ...

    shadow = Shadow(
        target=Target(model=MODEL, engines=ENGINES, public=PUBLIC, endpoints={}, deadline_s=2.0),
        outputs=settings().outputs,
        batched=True,
        settings=ShadowSettings(rate=1e-9, reference=ENOUGH, queue=1024),
        take=take,
        observe=lambda _: None,
        clock=now,
        chance=random.Random(3),
    )

    async def read() -> Mirrored:
        return Mirrored(inputs={"x": IMAGE})

    assert not any([await shadow.offer(read) for _ in range(20)])
    shadow.hurry()
    assert [await shadow.offer(read) for _ in range(60)] == [True] * 50 + [False] * 10
