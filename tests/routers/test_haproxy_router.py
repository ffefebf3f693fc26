"""The HAProxy router against a real HAProxy, with traffic, reloads, and peers that are none."""

import asyncio
import fcntl
import math
import os
import stat
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tritonclient.grpc import service_pb2

from tests.routers.haproxy_fixture import KEY, MISSING, Haproxy, haproxy_between
from watchdog.model.engine import Role
from watchdog.model.route import share_of_fast
from watchdog.routers.haproxy import HaproxyRouter, HaproxySettings, values_of, with_share

real = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

CLIENTS = 4
IMAGE = b"x" * 20_000


@pytest.fixture
async def haproxy(tmp_path: Path) -> AsyncIterator[Haproxy]:
    async with haproxy_between(tmp_path) as haproxy:
        yield haproxy


@asynccontextmanager
async def routed(settings: HaproxySettings) -> AsyncIterator[HaproxyRouter]:
    router = HaproxyRouter(settings)
    try:
        yield router
    finally:
        await router.close()


@pytest.fixture
async def router(haproxy: Haproxy) -> AsyncIterator[HaproxyRouter]:
    async with routed(haproxy.settings()) as router:
        yield router


@dataclass
class Traffic:
    """What was answered: (sent at, by whom), and what was not."""

    answers: list[tuple[float, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    async def next(self, count: int) -> Counter[str]:
        """Who answers so many requests that are sent from now on."""
        since = time.monotonic()
        async with asyncio.timeout(60):
            while True:
                counted = Counter(by for sent, by in self.answers if sent >= since)
                if counted.total() >= count:
                    return counted
                self.answered.clear()
                await self.answered.wait()


@asynccontextmanager
async def traffic_to(haproxy: Haproxy) -> AsyncIterator[Traffic]:
    traffic = Traffic()

    async def client(session: aiohttp.ClientSession) -> None:
        while True:
            sent = time.monotonic()
            try:
                traffic.answers.append((sent, await infer(session, haproxy)))
            except (aiohttp.ClientError, TimeoutError) as error:
                traffic.failures.append(repr(error))
            traffic.answered.set()

    async with aiohttp.ClientSession() as session:
        clients = [asyncio.create_task(client(session)) for _ in range(CLIENTS)]
        try:
            yield traffic
        finally:
            for each in clients:
                each.cancel()
            await asyncio.gather(*clients, return_exceptions=True)


async def infer(session: aiohttp.ClientSession, haproxy: Haproxy, path: str = f"{KEY}infer") -> str:
    async with session.post(f"http://{haproxy.http}{path}", data=IMAGE, raise_for_status=True) as response:
        return await response.text()


async def infer_once(haproxy: Haproxy, path: str = f"{KEY}infer") -> str:
    async with aiohttp.ClientSession() as session:
        return await infer(session, haproxy, path)


@real
async def test_moves_under_traffic_without_a_failed_request(haproxy: Haproxy, router: HaproxyRouter) -> None:
    async with traffic_to(haproxy) as traffic:
        assert {*await traffic.next(100)} == {"fast"}

        safe = await router.apply(Role.SAFE)
        assert {*await traffic.next(500)} == {"safe"}

        fast = await router.apply(Role.FAST)
        assert {*await traffic.next(500)} == {"fast"}

        tenth = await router.apply(Role.FAST, 10)
        counted = await traffic.next(2000)

    assert safe.ok
    assert fast.ok
    assert tenth.ok
    assert traffic.failures == []
    expected, spread = 0.1 * counted.total(), math.sqrt(0.09 * counted.total())
    assert abs(counted["fast"] - expected) < 6 * spread


@real
@pytest.mark.parametrize("desired", list(Role))
@pytest.mark.parametrize("percent", [100, 99, 50, 1])
async def test_what_is_applied_is_observed_and_kept(
    haproxy: Haproxy, router: HaproxyRouter, desired: Role, percent: int
) -> None:
    applied, observed = await router.apply(desired, percent), await router.observe()

    share = share_of_fast(desired, percent)
    assert applied.ok
    assert observed.known
    assert observed.fast_percent == share
    assert haproxy.running() == haproxy.kept() == [str(share)]


@real
async def test_a_whole_share_is_observed_as_the_role_that_has_it(router: HaproxyRouter) -> None:
    for desired in (Role.SAFE, Role.FAST):
        await router.apply(desired)
        observed = await router.observe()
        assert (observed.role, observed.percent) == (desired, 100)


@real
async def test_grpc_goes_by_the_name_of_the_model_in_the_message(haproxy: Haproxy, router: HaproxyRouter) -> None:
    async def ask(model: str, size: int, compression: grpc.Compression | None = None) -> str:
        request = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=[bytes(size)])
        return str((await call(request, timeout=20, compression=compression)).model_name)

    async with grpc.aio.insecure_channel(haproxy.grpc, options=[("grpc.max_send_message_length", -1)]) as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        assert [await ask("nodule", size) for size in (0, 3_000_000)] == ["fast", "fast"]
        assert await ask("nodule2", 10) == "safe"
        assert await ask("nodule", 30_000, grpc.Compression.Gzip) == "safe"  # its name can't be read

        await router.apply(Role.SAFE)
        assert [await ask("nodule", size) for size in (0, 3_000_000)] == ["safe", "safe"]


@real
async def test_what_the_map_does_not_list_is_safe(haproxy: Haproxy) -> None:
    assert await infer_once(haproxy, "/v2/models/nodule2/infer") == "safe"
    assert await infer_once(haproxy, "/v2/models/nodule/versions/2/infer") == "fast"


@real
@pytest.mark.parametrize("again", [Haproxy.reload, Haproxy.restart])
async def test_the_route_outlives_haproxy(
    haproxy: Haproxy, router: HaproxyRouter, again: Callable[[Haproxy], None]
) -> None:
    for desired in (Role.SAFE, Role.FAST):
        await router.apply(desired)
        await asyncio.to_thread(again, haproxy)

        assert (await router.observe()).role is desired
        assert await infer_once(haproxy) == desired


@real
async def test_a_kept_connection_follows_a_switch_after_a_reload(haproxy: Haproxy, router: HaproxyRouter) -> None:
    async with aiohttp.ClientSession() as session:
        assert await infer(session, haproxy) == "fast"
        await asyncio.to_thread(haproxy.reload)
        await router.apply(Role.SAFE)
        assert await infer(session, haproxy) == "safe"


@real
@pytest.mark.parametrize(("before", "desired"), [(Role.FAST, Role.SAFE), (Role.SAFE, Role.FAST)])
async def test_a_switch_that_stops_halfway_leaves_the_safe_engine_to_a_restart(
    haproxy: Haproxy, before: Role, desired: Role
) -> None:
    """The safe one is where traffic was going, or where it was."""
    async with routed(haproxy.settings(timeout="200ms")) as router:
        await router.apply(before)
        haproxy.pause()
        applied, observed = await router.apply(desired), await router.observe()
        haproxy.resume()
        assert not applied.ok
        assert applied.retry
        assert "did not answer within 0.2 s" in applied.detail
        assert not observed.known

        await asyncio.to_thread(haproxy.restart)
        assert await infer_once(haproxy) == "safe"


@real
async def test_at_no_moment_would_a_reload_give_the_fast_engine_more_than_it_has(
    haproxy: Haproxy, router: HaproxyRouter
) -> None:
    """The switch is broken off a little later each time, as a killed process would."""
    for desired in (Role.SAFE, Role.FAST):
        broken_off, steps = True, 0
        while broken_off:
            await router.apply(desired.other)
            task = asyncio.create_task(router.apply(desired))
            for _ in range(steps):
                await asyncio.sleep(0)
            broken_off = task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await router.observe()  # which waits for what the file's thread still does
            assert int(haproxy.kept()[0]) <= int(haproxy.running()[0])
            steps += 1 + steps // 4


@real
async def test_applying_again_writes_nothing(haproxy: Haproxy, router: HaproxyRouter) -> None:
    first = await router.apply(Role.SAFE)
    file = haproxy.map_file.stat()
    again = await router.apply(Role.SAFE)

    assert "before, the map had 100" in first.detail
    assert again.ok
    assert again.detail.startswith("already so")
    assert haproxy.map_file.stat() == file


@real
async def test_everything_else_in_the_file_stays_to_the_byte(haproxy: Haproxy, router: HaproxyRouter) -> None:
    others = (b"# caf\xe9\r\n\n /v2/models/other/ \t7  \n", b"/v2/models/nodule/extra/ 3\n\n#%s 4" % KEY.encode())
    haproxy.map_file.write_bytes(others[0] + b"\t" + KEY.encode() + b"\t 100 \r\n" + others[1])
    haproxy.map_file.chmod(0o640)

    await router.apply(Role.FAST, 30)

    assert haproxy.map_file.read_bytes() == others[0] + b"\t" + KEY.encode() + b"\t 30 \r\n" + others[1]
    assert stat.S_IMODE(haproxy.map_file.stat().st_mode) == 0o640


@real
async def test_a_link_to_the_file_stays_one(haproxy: Haproxy, router: HaproxyRouter) -> None:
    target = haproxy.map_file.with_name("elsewhere.map")
    haproxy.map_file.rename(target)
    haproxy.map_file.symlink_to(target)

    assert (await router.apply(Role.SAFE)).ok

    assert haproxy.map_file.is_symlink()
    assert haproxy.kept() == ["0"]


@real
async def test_models_that_share_a_map_keep_out_of_each_others_way(haproxy: Haproxy) -> None:
    keys = [f"/v2/models/m{number}/" for number in range(8)]
    routers = [HaproxyRouter(haproxy.settings(key=key)) for key in keys]

    applied = await asyncio.gather(*(router.apply(Role.FAST, 11 + n) for n, router in enumerate(routers)))
    await asyncio.gather(*(router.close() for router in routers))

    assert all(each.ok for each in applied)
    for number, key in enumerate(keys):
        assert haproxy.running(key) == haproxy.kept(key) == [str(11 + number)]
    assert haproxy.running() == haproxy.kept() == ["100"]


@real
@pytest.mark.parametrize("desired", list(Role))
async def test_a_key_that_is_missing_is_added(haproxy: Haproxy, desired: Role) -> None:
    async with routed(haproxy.settings(key="/v2/models/new/")) as router:
        before = await router.observe()
        applied, after = await router.apply(desired), await router.observe()

    assert before.known
    assert before.role is None
    assert "has nothing for /v2/models/new/" in before.detail
    assert applied.ok
    assert after.role is desired
    assert await infer_once(haproxy, "/v2/models/new/infer") == desired
    assert haproxy.kept("/v2/models/new/") == haproxy.running("/v2/models/new/")


@real
@pytest.mark.parametrize(
    ("commands", "said"),
    [
        (["set map {} {} 300"], "has 300 for"),
        (["add map {} {} 7"], "has 100 and 7 for"),
        (["del map {} {}"], "has nothing for"),
    ],
)
async def test_a_share_that_is_none_is_told_and_replaced(
    haproxy: Haproxy, router: HaproxyRouter, commands: list[str], said: str
) -> None:
    for command in commands:
        haproxy.ask(command.format(haproxy.map_file, KEY))
    observed = await router.observe()
    assert observed.known
    assert observed.fast_percent is None
    assert said in observed.detail

    assert (await router.apply(Role.SAFE)).ok
    assert {*haproxy.running()} == {"0"}
    assert await infer_once(haproxy) == "safe"


@real
@pytest.mark.parametrize("desired", list(Role))
async def test_a_file_that_cannot_be_written_stops_no_switch_and_is_told(haproxy: Haproxy, desired: Role) -> None:
    async with routed(haproxy.settings()) as router:
        await router.apply(desired.other)
        obstacle = haproxy.map_file.with_name(f".{haproxy.map_file.name}.watchdog")
        obstacle.mkdir()  # permissions would not stop root
        applied, observed = await router.apply(desired), await router.observe()

        assert applied.ok
        assert f"a reload of HAProxy may undo it: {haproxy.map_file}: Is a directory" in applied.detail
        assert observed.role is desired
        assert "but a reload would go by" in observed.detail
        assert "Is a directory" in observed.detail
        assert await infer_once(haproxy) == desired

        obstacle.rmdir()
        again, healed = await router.apply(desired), await router.observe()
        assert again.ok
        assert "undo" not in again.detail
        assert "but" not in healed.detail
        assert haproxy.kept() == haproxy.running()


@real
async def test_a_file_that_hangs_holds_no_switch_up_and_is_written_in_the_end(haproxy: Haproxy) -> None:
    async with routed(haproxy.settings(timeout="200ms")) as router:
        folder = os.open(haproxy.map_file.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            applied, observed = await router.apply(Role.SAFE), await router.observe()
        finally:
            os.close(folder)

        assert applied.ok
        assert "not done within 0.2 s" in applied.detail
        assert observed.role is Role.SAFE
        async with asyncio.timeout(20):
            while haproxy.kept() != ["0"]:  # noqa: ASYNC110 - a file tells nobody that it changed
                await asyncio.sleep(0.01)


@real
async def test_a_file_that_is_gone_is_told(haproxy: Haproxy, router: HaproxyRouter) -> None:
    haproxy.map_file.unlink()
    applied, observed = await router.apply(Role.SAFE), await router.observe()

    assert applied.ok
    assert "write it first" in applied.detail
    assert observed.role is Role.SAFE
    assert "what a reload would give it is not known" in observed.detail
    assert not haproxy.map_file.exists()  # other models' lines are not known


@real
async def test_a_file_by_which_a_reload_would_favour_the_fast_engine_is_a_moved_route(
    haproxy: Haproxy, router: HaproxyRouter
) -> None:
    await router.apply(Role.SAFE)
    haproxy.map_file.write_text(f"{KEY} 100\n", encoding="utf-8")
    observed = await router.observe()
    assert observed.known
    assert observed.role is None
    assert f"a reload would go by {haproxy.map_file}, which has 100" in observed.detail

    await router.apply(Role.SAFE)
    assert haproxy.kept() == ["0"]
    assert (await router.observe()).role is Role.SAFE


@real
async def test_a_file_by_which_a_reload_would_favour_the_safe_engine_is_only_told(
    haproxy: Haproxy, router: HaproxyRouter
) -> None:
    haproxy.map_file.write_text(f"{KEY} 5\n", encoding="utf-8")
    observed = await router.observe()
    assert observed.role is Role.FAST
    assert "which has 5" in observed.detail


@real
async def test_an_haproxy_that_is_down_is_not_known(haproxy: Haproxy, router: HaproxyRouter) -> None:
    haproxy.kill()
    applied, observed = await router.apply(Role.SAFE), await router.observe()

    assert not applied.ok
    assert applied.retry
    assert "is HAProxy running?" in applied.detail
    assert not observed.known
    assert observed.role is None


@real
async def test_a_map_that_haproxy_does_not_use_is_told(haproxy: Haproxy, tmp_path: Path) -> None:
    other = tmp_path / "other.map"
    other.write_text(f"{KEY} 100\n", encoding="utf-8")
    async with routed(haproxy.settings(map_file=other)) as router:
        applied, observed = await router.apply(Role.FAST, 50), await router.observe()

    assert not applied.ok
    assert not applied.retry
    assert "must be written exactly as in haproxy.cfg" in applied.detail
    assert not observed.known


@real
async def test_a_socket_of_a_lower_level_is_refused_clearly_or_enough(tmp_path: Path) -> None:
    """HAProxy 2.6 lets every level change a map."""
    async with haproxy_between(tmp_path, level="user") as haproxy, routed(haproxy.settings()) as router:
        applied = await router.apply(Role.SAFE)
        assert applied.ok is (haproxy.running() == ["0"])
        assert applied.ok or "level admin" in applied.detail


class Peer:
    """Answers the stats socket's commands by a script, and remembers them."""

    def __init__(self, script: dict[str, bytes]) -> None:
        self._script = script
        self.commands: list[str] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        command = (await reader.readline()).decode()
        self.commands.append(command)
        writer.write(self._script[command.split()[0]])
        if self._script[command.split()[0]].endswith(b"..."):
            await reader.read()  # until the other side gives up
        writer.close()


@asynccontextmanager
async def peer_with(script: dict[str, bytes], tmp_path: Path) -> AsyncIterator[tuple[Peer, HaproxyRouter]]:
    peer, socket, file = Peer(script), tmp_path / "peer.sock", tmp_path / "shares.map"
    file.write_text(f"{KEY} 100\n", encoding="utf-8")
    server = await asyncio.start_unix_server(peer.answer, socket)
    settings = HaproxySettings(kind="haproxy", socket=socket, map_file=file, key=KEY, timeout=1.0)
    async with server, routed(settings) as router:
        yield peer, router


AT_100 = f"0x5581 {KEY} 100\n\n".encode()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ({"show": b""}, "broke off its answer to `show map`"),
        ({"show": f"0x5581 {KEY} 0\n".encode()}, "broke off"),
        ({"show": b"<html>\n\n"}, "HAProxy says: <html>"),
        ({"show": b"0xzz a 1\n\n"}, "HAProxy says: 0xzz a 1"),
        ({"show": b"\xff\xfe\n\n"}, "HAProxy says:"),
        ({"show": b"x" * 2**21}, "larger than 1 MiB"),
        ({"show": b"0x5581 ..."}, "did not answer within 1 s"),
        ({"show": b"Permission denied\n\n"}, "Permission denied (give this stats socket `level admin`)"),
        ({"show": AT_100, "set": b"Permission denied\n\n"}, "level admin"),
        ({"show": AT_100, "set": b"entry not found.\n\n"}, "HAProxy says: entry not found."),
        ({"show": AT_100, "set": b""}, "broke off its answer to `set map`"),
        ({"show": AT_100, "set": b"\n"}, "HAProxy took 0 for /v2/models/nodule/, but its map has 100"),
        ({"show": b"\n", "add": b"a long\ntext\n\n"}, "HAProxy says: a long text"),
        ({"show": b"\n", "add": b"\n"}, "but its map has nothing"),
    ],
)
async def test_answers_that_prove_nothing_are_told_in_one_line(
    tmp_path: Path, script: dict[str, bytes], said: str
) -> None:
    async with peer_with(script, tmp_path) as (_, router):
        applied = await router.apply(Role.SAFE)

    assert not applied.ok
    assert said in applied.detail
    assert "\n" not in applied.detail


async def test_others_entries_may_look_as_they_like(tmp_path: Path) -> None:
    script = {"show": f"0x1 no-value\n0x2 text some words\n0x3 {KEY}x 4\n0x4 {KEY} 100\n\n".encode()}
    async with peer_with(script, tmp_path) as (peer, router):
        observed = await router.observe()

    assert observed.role is Role.FAST
    assert peer.commands == [f"show map {tmp_path / 'shares.map'}\n"]


async def test_it_can_be_closed_twice(tmp_path: Path) -> None:
    async with peer_with({"show": AT_100}, tmp_path) as (_, router):
        await router.observe()
        await router.close()
        await router.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"key": ""}, "printable ASCII"),
        ({"key": "a b"}, "without blanks"),
        ({"key": "a;b"}, "without # ; <"),
        ({"key": "a\nshutdown"}, "without blanks"),
        ({"key": "#0x1"}, "without # ; <"),
        ({"key": "näve"}, "printable ASCII"),
        ({"map_file": "/etc/my maps/shares.map"}, "without blanks"),
        ({"map_file": "/etc/a;b.map"}, "without # ; <"),
        ({"timeout": 2}, "not a duration"),
    ],
)
def test_settings_that_no_command_can_carry_are_refused(change: dict[str, Any], said: str) -> None:
    data = {"kind": "haproxy", "socket": "/s", "map_file": "/shares.map", "key": KEY}
    with pytest.raises(ValidationError, match=said):
        HaproxySettings.model_validate(data | change)


lines = st.one_of(
    st.sampled_from([b"", b"# text", b"/a/ 1", b"/a/b 2", b"/a 3", b" /a/\t4 \r", b"/a/  x y", b"\t/b/ 5", b"#/a/ 6"]),
    st.binary(max_size=12).filter(lambda line: b"\n" not in line),
)


@given(content=st.lists(lines, max_size=8).map(b"\n".join), share=st.integers(0, 100))
def test_a_changed_share_changes_nothing_else(content: bytes, share: int) -> None:
    def is_ours(line: bytes) -> bool:
        return line.lstrip(b" \t").replace(b"\t", b" ").startswith(b"/a/ ")

    changed = with_share(content, b"/a/", share)

    before, after = content.split(b"\n"), changed.split(b"\n")
    if any(map(is_ours, before)):
        assert len(after) == len(before)
        assert [line for line in after if not is_ours(line)] == [line for line in before if not is_ours(line)]
    else:
        assert changed.startswith(content)
    assert {*values_of(changed, b"/a/")} == {str(share)}
    assert with_share(changed, b"/a/", share) == changed
