"""How `watchdog run` starts, ends and comes back: signals, crashes, restarts of Triton, and refusals to start."""

import os
import signal
import socket
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.service.conftest import MODEL, Run, Site, eventually, watchdog
from tests.triton_fixture import Mood
from watchdog.cli.terminal import UNREACHABLE

pytestmark = pytest.mark.triton
Start = Callable[[Path], Run]


def freeze(site: Site, number: signal.Signals) -> None:
    """Stop or continue Triton as a whole."""
    os.killpg(site.triton.pid, number)


def journal(config: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(config.parent / "state/journal.sqlite") as connection:
        rows = connection.execute("SELECT kind, data FROM entries ORDER BY seq").fetchall()
    connection.close()
    return rows


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_on_a_signal_and_journals_that(site: Site, run: Start, tmp_path: Path, number: signal.Signals) -> None:
    config = site.configure(tmp_path)
    service = run(config)
    service.await_healthy()

    service.signal(number)

    assert service.end(5) == 0
    assert [kind for kind, _ in journal(config)] == ["started", "stopped"]


def test_a_probe_in_flight_is_finished_before_the_end(site: Site, run: Start, tmp_path: Path) -> None:
    probe = {"every": "2s", "deadline": "4s"}  # what is due next comes after the end
    latency = {"fast": "10s", "safe": "10s"}
    service = run(site.configure(tmp_path, models=[site.model(probe=probe, latency=latency)]))
    service.await_healthy()
    before = service.mark()
    site.feel(2, Mood.SLOW)
    eventually(site.is_dawdling, "a slow probe under way")

    service.signal(signal.SIGTERM)

    assert service.end(8) == 0
    assert service.expect("probe", before, public=True, verdict="healthy")["total_ms"] > 900


def test_a_signal_during_the_start_ends_it_too(site: Site, run: Start, tmp_path: Path) -> None:
    service = run(site.configure(tmp_path))
    service.expect("listening")
    service.signal(signal.SIGTERM)
    service.signal(signal.SIGHUP)

    assert service.end(10) == 0


def test_after_a_crash_it_goes_on_serving_safe(site: Site, run: Start, tmp_path: Path) -> None:
    config = site.configure(tmp_path)
    first = run(config)
    first.await_healthy()
    site.feel(2, Mood.NAN)
    first.await_state("serving-safe")
    first.signal(signal.SIGKILL)
    first.end()

    second = run(config)
    second.await_healthy()

    assert second.state() == "serving-safe"
    assert [a["alert"] for a in second.status()["alerts"]] == ["WatchdogEngineRolledBack"]
    assert site.triton.ready_versions(MODEL) == [1]


def test_after_a_crash_the_route_that_triton_forgot_is_set_again(site: Site, run: Start, tmp_path: Path) -> None:
    config = site.configure(tmp_path)
    first = run(config)
    first.await_healthy()
    assert first.command("rollback", MODEL).returncode == 0
    first.signal(signal.SIGKILL)
    first.end()
    site.triton.kill()
    site.triton.start()
    assert site.triton.ready_versions(MODEL) == [1, 2]

    second = run(config)
    second.expect("switch", to="safe", proven=True)
    second.await_state("serving-safe")

    assert site.triton.ready_versions(MODEL) == [1]
    assert [a["alert"] for a in second.status()["alerts"]] == ["WatchdogRouteReasserted"]


def test_a_crash_between_intent_and_outcome_leaves_no_doubt(site: Site, run: Start, tmp_path: Path) -> None:
    """Triton stops answering while the way back is tried; the watchdog is killed there, and started again."""
    seldom = site.model(probe={"every": "30s", "deadline": "3s"})  # so that no probe is in the way
    config = site.configure(tmp_path, models=[seldom])
    first = run(config)
    first.await_healthy()
    assert first.command("rollback", MODEL).returncode == 0
    freeze(site, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(1) as pool:
            token = tmp_path / "token"
            promotion = pool.submit(watchdog, "promote", MODEL, "--url", first.url, "--token-file", token)
            eventually(lambda: [kind for kind, _ in journal(config)].count("intent") == 2, "the intent in the journal")
            first.signal(signal.SIGKILL)
            first.end()
            assert promotion.result().returncode == 3
    finally:
        freeze(site, signal.SIGCONT)
    assert [kind for kind, _ in journal(config)].count("outcome") == 1

    second = run(config)
    second.await_healthy()
    second.await_state("serving-safe")
    eventually(lambda: site.triton.ready_versions(MODEL) == [1], "the route that was desired")


def test_when_triton_is_down_it_starts_blind_and_recovers(site: Site, run: Start, tmp_path: Path) -> None:
    site.triton.kill()
    service = run(site.configure(tmp_path))
    service.await_state("blind")
    assert service.ask("/-/ready")[0] == 200
    assert [a["alert"] for a in service.status()["alerts"]] == ["WatchdogServerDown"]

    site.triton.start()

    service.await_state("serving-fast")
    assert service.status()["alerts"] == []
    assert service.status()["models"][MODEL]["policy"]["switches"] == []


def test_a_second_watchdog_with_the_same_state_is_refused(site: Site, run: Start, tmp_path: Path) -> None:
    config = site.configure(tmp_path)
    service = run(config)
    service.await_healthy()

    second = watchdog("run", config)

    assert second.returncode == 2
    assert f"state: another watchdog runs with {tmp_path / 'state'}; give each a folder of its own" in second.stderr
    service.await_healthy(service.mark())


def refused(config: Path, said: str) -> None:
    began = time.monotonic()
    done = watchdog("run", config)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - began < 15


def test_a_port_in_use_is_said_to_be(site: Site, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        refused(site.configure(tmp_path, api={"listen": listen}), f"api.listen: can't listen on {listen}: ")


@pytest.mark.parametrize("listen", ["no-such-host.invalid:0", "a..b:0", f"{'x' * 70}:0"])
def test_a_host_that_is_none(site: Site, tmp_path: Path, listen: str) -> None:
    refused(site.configure(tmp_path, api={"listen": listen}), f"api.listen: can't listen on {listen}: ")


def test_an_address_that_traces_can_not_come_to(site: Site, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        refused(site.configure(tmp_path, traces={"listen": listen}), f"traces.listen: can't listen on {listen}: ")
    refused(site.configure(tmp_path, traces={"listen": "a..b:0"}), "traces.listen: can't listen on a..b:0: ")


def test_a_state_folder_that_is_a_file(site: Site, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    refused(site.configure(tmp_path), f"state: {tmp_path / 'state'} can't be used: File exists")


def test_with_a_journal_that_is_none_it_watches_and_alerts_but_moves_nothing(
    site: Site, run: Start, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    diary = tmp_path / "state/journal.sqlite"
    diary.write_text("this is a diary " * 100)
    service = run(site.configure(tmp_path))
    service.await_healthy()

    (alert,) = service.status()["alerts"]
    assert (alert["alert"], alert["severity"]) == ("WatchdogJournalFailing", "critical")
    refusal = service.command("rollback", MODEL)
    assert refusal.returncode == UNREACHABLE
    assert "this is not an SQLite file, so not a journal" in refusal.stderr
    assert site.triton.ready_versions(MODEL) == [1, 2]

    diary.rename(tmp_path / "diary")
    eventually(lambda: not service.status()["alerts"], "the journal is begun anew", timeout_s=90)
    assert service.command("rollback", MODEL).returncode == 0


def test_a_journal_whose_last_decision_means_nothing(site: Site, run: Start, tmp_path: Path) -> None:
    config = site.configure(tmp_path)
    service = run(config)
    service.await_healthy()
    service.command("hold", MODEL)
    service.signal(signal.SIGTERM)
    service.end()
    insert = (
        "INSERT INTO entries (seq, at, kind, model, data, hash)"
        " VALUES ((SELECT max(seq) + 1 FROM entries), 1, 'decision', ?, ?, zeroblob(32))"
    )
    with sqlite3.connect(tmp_path / "state/journal.sqlite") as connection:
        connection.execute(insert, (MODEL, '{"after": {"state": "asleep"}}'))
    connection.close()
    refused(config, "can't be resumed from")


def test_all_that_is_missing_is_told_at_once(site: Site, tmp_path: Path) -> None:
    other = site.model(name="other", canaries={"path": "nowhere", "recipe": str(site.folder / "recipe.yaml")})
    config = site.configure(tmp_path, models=[site.model(baseline="nothing"), other])

    done = watchdog("run", config)

    assert done.returncode == 2
    assert f"{MODEL}: {tmp_path / 'nothing/manifest.json'}: not there; capture one with" in done.stderr
    assert f"other: there is no canary file or folder {tmp_path / 'nowhere'}" in done.stderr
    assert "Traceback" not in done.stderr
