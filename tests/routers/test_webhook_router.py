"""The webhook router against receivers that behave, that don't, and the one of the examples as it is written."""

import hashlib
import hmac
import json
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from watchdog.model.engine import Address, Role
from watchdog.model.route import Observed, share_of_fast
from watchdog.routers.webhook import WebhookRouter, WebhookRouterSettings
from watchdog.signing import signed

EXAMPLE = Path(__file__).parents[2] / "examples" / "webhook-router" / "receiver.py"
NOW = 1_700_000_100.7
ENGINES = {
    Role.FAST: Address(endpoint="triton", model="nodule_fp16", version="7"),
    Role.SAFE: Address(endpoint="triton-b", model="nodule_fp32"),
}


@dataclass
class Receiver:
    """Answers as it is told, POSTs and GETs each in turn; the last answer stays."""

    posts: list[tuple[int, str]] = field(default_factory=lambda: [(200, "")])
    gets: list[tuple[int, str]] = field(default_factory=lambda: [(405, "")])
    had: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    url: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        answers = self.posts if request.method == "POST" else self.gets
        self.asked[request.method] += 1
        if request.method == "POST":
            self.had.append((dict(request.headers), await request.read()))
        status, text = answers.pop(0) if len(answers) > 1 else answers[0]
        return web.Response(status=status, text=text, headers={"Location": "/elsewhere"} if 300 <= status < 400 else {})

    @property
    def keys(self) -> list[str]:
        return [json.loads(body)["idempotency_key"] for _, body in self.had]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/route/nodule", receiver.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"127.0.0.1:{runner.addresses[0][1]}/route/nodule"
    yield receiver
    await runner.cleanup()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    (tmp_path / "key").write_text("a signing key\n")
    return tmp_path / "key"


def rotate(key_file: Path, key: str) -> None:
    key_file.write_text(key)


def router_to(url: str, key_file: Path, clock: Any = lambda: NOW, **more: Any) -> WebhookRouter:
    data = {"kind": "webhook", "url": url, "signing_key": {"file": key_file}, "timeout": "5s", **more}
    return WebhookRouter(WebhookRouterSettings.model_validate(data), ENGINES, clock)


async def test_the_body_and_the_headers_are_what_the_docstring_says(receiver: Receiver, key_file: Path) -> None:
    applied = await router_to(receiver.url, key_file).apply(Role.FAST, 10)

    assert applied.ok
    ((headers, body),) = receiver.had
    sent = json.loads(body)
    key = sent.pop("idempotency_key")
    assert sent == {
        "version": 1,
        "model": "nodule_fp16",
        "desired": "fast",
        "percent": 10,
        "fast_percent": 10,
        "engines": {
            "fast": {"endpoint": "triton", "model": "nodule_fp16", "version": "7"},
            "safe": {"endpoint": "triton-b", "model": "nodule_fp32", "version": ""},
        },
    }
    digest = hmac.new(b"a signing key", b"1700000100." + body, hashlib.sha256).hexdigest()
    assert headers["X-Watchdog-Signature"] == f"t=1700000100,v1={digest}"
    assert headers["X-Watchdog-Delivery"] == hashlib.sha256(body).hexdigest()[:32]
    assert headers["Idempotency-Key"] == key
    assert headers["Content-Type"] == "application/json"


async def test_the_receiver_may_know_the_model_by_another_name(receiver: Receiver, key_file: Path) -> None:
    await router_to(receiver.url, key_file, model="nodule").apply(Role.SAFE)
    assert json.loads(receiver.had[0][1])["model"] == "nodule"


@pytest.mark.parametrize(
    ("status", "outcome", "said"),
    [
        (200, (True, True), "taken"),
        (204, (True, True), "taken"),
        (301, (False, False), "redirect"),
        (307, (False, False), "redirect"),
        (400, (False, False), "400"),
        (401, (False, True), "401"),
        (403, (False, True), "403"),
        (404, (False, False), "404"),
        (408, (False, True), "408"),
        (409, (False, False), "refused: "),
        (412, (False, False), "refused: "),
        (425, (False, True), "425"),
        (429, (False, True), "429"),
        (500, (False, True), "500"),
        (503, (False, True), "503"),
    ],
)
async def test_what_a_status_means(
    receiver: Receiver, key_file: Path, status: int, outcome: tuple[bool, bool], said: str
) -> None:
    receiver.posts = [(status, "" if status == 204 else "because\nof this")]

    applied = await router_to(receiver.url, key_file).apply(Role.SAFE)

    assert (applied.ok, applied.retry) == outcome
    assert said in applied.detail
    assert applied.detail.isprintable()
    assert "/route/" not in applied.detail  # a path may hold a token
    assert len(receiver.had) == 1  # a redirect is not followed, and trying again is not the router's
    if status >= 400:
        assert "because of this" in applied.detail


async def test_a_wish_keeps_its_key_until_it_is_answered_for_good(receiver: Receiver, key_file: Path) -> None:
    router = router_to(receiver.url, key_file)
    receiver.posts = [(503, ""), (429, ""), (200, "")]
    for _ in range(3):
        await router.apply(Role.SAFE)
    assert len(set(receiver.keys)) == 1
    assert len({headers["X-Watchdog-Delivery"] for headers, _ in receiver.had}) == 1

    await router.apply(Role.SAFE)  # somebody else moved the route meanwhile: this must not pass for a retry

    assert len(set(receiver.keys)) == 2


@pytest.mark.parametrize("last", [409, 400])
async def test_a_refused_wish_is_over(receiver: Receiver, key_file: Path, last: int) -> None:
    router = router_to(receiver.url, key_file)
    receiver.posts = [(last, "")]
    await router.apply(Role.SAFE)
    await router.apply(Role.SAFE)
    assert len(set(receiver.keys)) == 2


async def test_another_wish_has_another_key_even_when_it_is_wished_again(receiver: Receiver, key_file: Path) -> None:
    router = router_to(receiver.url, key_file)
    receiver.posts = [(503, "")]
    for role, percent in ((Role.FAST, 100), (Role.FAST, 50), (Role.SAFE, 50), (Role.FAST, 100)):
        await router.apply(role, percent)
    assert len(set(receiver.keys)) == 4


async def test_a_wish_that_could_not_be_sent_keeps_its_key(receiver: Receiver, key_file: Path) -> None:
    router = router_to(receiver.url, key_file)
    receiver.posts = [(500, ""), (200, "")]
    await router.apply(Role.SAFE)
    rotate(key_file, "")
    unsigned = await router.apply(Role.SAFE)
    rotate(key_file, "a rotated key")
    assert (await router.apply(Role.SAFE)).ok

    assert (unsigned.ok, unsigned.retry) == (False, True)
    assert str(key_file) in unsigned.detail
    (first, _), (second, body) = receiver.had
    assert first["Idempotency-Key"] == second["Idempotency-Key"]
    assert second["X-Watchdog-Signature"] == signed(body, "a rotated key", int(NOW))["X-Watchdog-Signature"]


FAST, SAFE = '{"role": "fast"}', '{"fast_percent": 0, "detail": "all pods\\nmoved"}'


async def test_what_is_only_accepted_is_done_once_it_shows(receiver: Receiver, key_file: Path) -> None:
    receiver.posts = [(202, "")]
    receiver.gets = [(200, FAST), (503, ""), (200, '{"fast_percent": 50}'), (200, SAFE)]

    applied = await router_to(receiver.url, key_file).apply(Role.SAFE)

    assert applied.ok
    assert applied.detail.endswith("accepted and done: the receiver shows 100 % at the safe engine: all pods moved")
    assert receiver.asked == {"POST": 1, "GET": 4}


@pytest.mark.parametrize(("get", "said"), [((200, FAST), "100 % at the fast engine"), ((500, "broken"), "500 broken")])
async def test_what_is_accepted_and_never_shows_is_not_taken_for_done(
    receiver: Receiver, key_file: Path, get: tuple[int, str], said: str
) -> None:
    receiver.posts, receiver.gets = [(202, "")], [get]
    router = router_to(receiver.url, key_file, timeout="400ms")

    applied, again = await router.apply(Role.SAFE), await router.apply(Role.SAFE)

    assert (applied.ok, applied.retry) == (False, True)
    assert "not done within 0.4 s, and may yet be: " in applied.detail
    assert said in applied.detail
    assert 0.4 <= applied.took_s < 5
    assert not again.ok
    assert len(set(receiver.keys)) == 1


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_a_receiver_without_get_can_be_used(receiver: Receiver, key_file: Path, status: int) -> None:
    receiver.posts, receiver.gets = [(202, "")], [(status, "no such method")]
    router = router_to(receiver.url, key_file)

    applied, observed = await router.apply(Role.SAFE), await router.observe()

    assert applied.ok
    assert "probes must show" in applied.detail
    assert (observed.known, observed.role) == (False, None)
    assert str(status) in observed.detail


@pytest.mark.parametrize(
    ("text", "role", "percent"),
    [
        ('{"role": "fast"}', Role.FAST, 100),
        ('{"role": "safe"}', Role.SAFE, 100),
        ('{"fast_percent": 100}', Role.FAST, 100),
        ('{"fast_percent": 50}', Role.FAST, 50),
        ('{"fast_percent": 10, "detail": "canary"}', Role.SAFE, 90),
        ('{"fast_percent": 0}', Role.SAFE, 100),
    ],
)
async def test_what_get_shows_is_observed(
    receiver: Receiver, key_file: Path, text: str, role: Role, percent: int
) -> None:
    receiver.gets = [(200, text)]
    observed = await router_to(receiver.url, key_file).observe()
    assert (observed.known, observed.role, observed.percent) == (True, role, percent)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fast",
        "[]",
        "null",
        "{}",
        '{"role": "FAST"}',
        '{"role": null}',
        '{"role": "fast", "fast_percent": 100}',
        '{"fast_percent": "100"}',
        '{"fast_percent": 100.5}',
        '{"fast_percent": true}',
        '{"fast_percent": 101}',
        '{"fast_percent": -1}',
        '{"fast_percent": NaN}',
        '{"fast_percent": 1e400}',
        '{"role": "fast", "detail": 1}',
        '{"role": "fast", "more": 1}',
        '{"role": "fast"',
        "[" * 100_000,
    ],
)
async def test_what_is_no_route_is_not_guessed_at(receiver: Receiver, key_file: Path, text: str) -> None:
    receiver.gets = [(200, text)]

    observed = await router_to(receiver.url, key_file).observe()

    assert (observed.known, observed.role) == (False, None)
    assert "GET is not answered with a route" in observed.detail
    assert observed.detail.isprintable()
    assert len(observed.detail) < 500


@given(st.integers(0, 100))
def test_a_share_that_is_shown_is_the_share_observed(fast_percent: int) -> None:
    from watchdog.routers.webhook import _Shown  # noqa: PLC0415 - what no other test needs

    observed = _Shown(fast_percent=fast_percent).observed()
    assert isinstance(observed, Observed)
    assert observed.role is not None
    assert share_of_fast(observed.role, observed.percent) == observed.fast_percent == fast_percent
    assert observed.percent >= 50


async def test_a_receiver_that_is_down_or_says_nothing(key_file: Path) -> None:
    down = await router_to("127.0.0.1:1", key_file).apply(Role.SAFE)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        router = router_to(f"127.0.0.1:{silent.getsockname()[1]}", key_file, timeout="200ms")
        late, unseen = await router.apply(Role.SAFE), await router.observe()

    assert (down.ok, down.retry) == (False, True)
    assert "can't connect" in down.detail
    assert (late.ok, late.retry) == (False, True)
    assert "no answer within 0.2 s" in late.detail
    assert not unseen.known


async def test_secrets_that_a_receiver_echoes_are_hidden(receiver: Receiver, key_file: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("Bearer t0p")
    receiver.posts = receiver.gets = [(400, "who is Bearer t0p?")]
    router = router_to(receiver.url, key_file, secret_headers={"Authorization": {"file": tmp_path / "token"}})

    applied, observed = await router.apply(Role.SAFE), await router.observe()

    assert "who is ***?" in applied.detail
    assert "who is ***?" in observed.detail


# The example, as it is written.


@dataclass
class Example:
    url: str
    route: Path

    async def post(self, body: bytes, headers: dict[str, str]) -> int:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://{self.url}", data=body, headers=headers) as r,
        ):
            return r.status


@pytest.fixture
def example(tmp_path: Path, key_file: Path) -> Iterator[Example]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [sys.executable, str(EXAMPLE), str(port), str(key_file), str(tmp_path / "route.json")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        give_up_at = time.monotonic() + 20
        while not _listens(port):
            assert process.poll() is None
            assert time.monotonic() < give_up_at
            time.sleep(0.02)
        yield Example(url=f"127.0.0.1:{port}", route=tmp_path / "route.json")
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


async def test_the_example_moves_the_route_and_tells_it(example: Example, key_file: Path) -> None:
    router = router_to(example.url, key_file, clock=time.time)

    before = await router.observe()
    seen = []
    for role, percent in ((Role.SAFE, 100), (Role.FAST, 10), (Role.FAST, 100)):
        assert (await router.apply(role, percent)).ok
        seen.append((await router.observe()).fast_percent)

    assert not before.known
    assert seen == [0, 10, 100]


async def test_the_example_moves_again_what_somebody_else_moved(example: Example, key_file: Path) -> None:
    router = router_to(example.url, key_file, clock=time.time)
    await router.apply(Role.SAFE)
    example.route.write_text('{"fast_percent": 100}')

    assert (await router.observe()).role is Role.FAST
    assert (await router.apply(Role.SAFE)).ok
    assert (await router.observe()).role is Role.SAFE


async def test_the_example_does_a_wish_once(example: Example) -> None:
    body = json.dumps({"fast_percent": 0, "idempotency_key": "k"}).encode()
    headers = signed(body, "a signing key", int(time.time()))

    assert await example.post(body, headers) == 200
    example.route.write_text('{"fast_percent": 100}')
    assert await example.post(body, headers) == 200  # a replay

    assert json.loads(example.route.read_text()) == {"fast_percent": 100}


@pytest.mark.parametrize(
    "forged",
    [
        lambda body: {},
        lambda body: signed(body, "another key", int(time.time())),
        lambda body: signed(body + b" ", "a signing key", int(time.time())),
        lambda body: signed(body, "a signing key", int(time.time()) - 3600),
        lambda body: {"X-Watchdog-Signature": "t=,v1=\xe9"},
    ],
    ids=["none", "another key", "another body", "an old one", "garbage"],
)
async def test_the_example_refuses_what_is_not_signed(example: Example, forged: Any) -> None:
    body = json.dumps({"fast_percent": 0, "idempotency_key": "k"}).encode()

    assert await example.post(body, forged(body)) == 401

    assert not example.route.exists()
