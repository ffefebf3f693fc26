"""The command line, as people and scripts meet it: exit codes, JSON, and plain text where no terminal is."""

import contextlib
import json
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tests.service.conftest import MODEL, Site, here, watchdog
from tests.triton_fixture import Mood
from watchdog.cli.main import app

OK, NOT_RIGHT, WRONG_CALL, UNREACHABLE = range(4)


def plain(text: str) -> str:
    """`text`, once it is sure that it has no colours and was not folded to a terminal's width."""
    assert "\x1b" not in text
    return text


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    took = []
    for _ in range(3):
        began = time.monotonic()
        done = watchdog("--help")
        took.append(time.monotonic() - began)
        assert done.returncode == OK
        assert "canaries" in plain(done.stdout)
    assert min(took) < 0.5
    heavy = ["aiohttp", "apscheduler", "grpc", "numpy", "pydantic", "pydicom", "rich", "scipy", "tritonclient", "yaml"]
    program = (
        "import sys\nfrom typer.testing import CliRunner\nfrom watchdog.cli.main import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("[]", "['rich']")  # typer's own test runner may bring it


@pytest.mark.parametrize(
    "command", ["", "run", "check", "probe", "baseline", "status", "rollback", "replay", "canaries make"]
)
def test_every_command_explains_itself(command: str) -> None:
    done = CliRunner().invoke(app, [*command.split(), "--help"])
    assert done.exit_code == OK
    assert "Usage:" in done.output


def test_the_version_is_told() -> None:
    done = watchdog("--version")
    assert (done.returncode, done.stderr) == (OK, "")
    assert done.stdout.startswith("inference-watchdog 0.")


def test_the_schema_is_json() -> None:
    done = watchdog("schema")
    assert done.returncode == OK
    assert "models" in json.loads(done.stdout)["required"]


@pytest.mark.parametrize("command", ["run", "check", "probe", "baseline"])
def test_a_bad_configuration_is_a_wrong_call(tmp_path: Path, command: str) -> None:
    file = tmp_path / "watchdog.yaml"
    file.write_text("endpoints: []\nmodels: [[1]]\n")
    done = here(command, file)
    assert (done.returncode, done.stdout) == (WRONG_CALL, "")
    assert plain(done.stderr).splitlines() == [
        "watchdog: the configuration can't be used:",
        f"  {file}:1: endpoints: needs at least 1, but there are 0",
        f"  {file}:2: models[0]: must hold keys and values (got [1])",
    ]


@pytest.mark.parametrize("arguments", [["nonsense"], ["run"], ["run", "x.yaml", "--log-level", "loud"], ["hold"]])
def test_a_wrong_call_is_told_on_standard_error(arguments: list[str]) -> None:
    done = here(*arguments)
    assert (done.returncode, done.stdout) == (WRONG_CALL, "")
    assert done.stderr


# -- check, probe and baseline against a real server ------------------------------------------


@pytest.mark.triton
def test_check_finds_everything_right(site: Site, tmp_path: Path) -> None:
    config = site.configure(tmp_path)
    done = here("check", config)
    assert done.returncode == OK, done.stdout
    lines = plain(done.stdout).splitlines()
    assert all(line.startswith("ok") for line in lines)
    assert any("router" in line and "version 2 serves; READY: 1, 2" in line for line in lines)
    as_json = json.loads(here("check", config, "--json").stdout)
    assert as_json["ok"] is True
    assert [check["what"] for check in as_json["checks"]] == [
        "api.token",
        "journal",
        "gpu",
        f"{MODEL} fast engine",
        f"{MODEL} safe engine",
        f"{MODEL} device time",
        f"{MODEL} router",
        f"{MODEL} canaries",
        f"{MODEL} baseline",
        f"{MODEL} drift",
        f"{MODEL} safe probe",
        f"{MODEL} fast probe",
        f"{MODEL} public probe",
    ]
    assert not (tmp_path / "state").exists()


@pytest.mark.triton
def test_check_names_each_thing_that_is_wrong_in_one_line(site: Site, tmp_path: Path) -> None:
    recipe = yaml.safe_load((site.folder / "recipe.yaml").read_text())
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"input": "MR"}))
    model = site.model(
        engines={"fast": {"version": 7}, "safe": {"version": 1}},
        outputs=[{"name": "nodule"}],
        canaries={"path": str(site.folder / "canaries"), "recipe": "recipe.yaml"},
        baseline="none",
    )
    config = site.configure(tmp_path, models=[model])
    (tmp_path / "token").unlink()
    done = here("check", config)
    assert (done.returncode, done.stderr) == (NOT_RIGHT, "")
    wrong = [line for line in plain(done.stdout).splitlines() if line.startswith("WRONG")]
    for said in (
        f"api.token cannot read the secret file {tmp_path / 'token'}",
        f"{MODEL} fast engine triton:{MODEL}/7: not-found",
        f"{MODEL} safe engine triton:{MODEL}/1 has no output 'nodule'; it has heatmap, probability",
        f"{MODEL} recipe profile opt: the engine has no input 'MR'",
        f"{MODEL} recipe profile opt: the engine wants the input 'CT', the recipe makes none",
        f"{MODEL} baseline {MODEL}: {tmp_path / 'none/manifest.json'}: not there",
    ):
        assert any(said in " ".join(line.split()) for line in wrong), said


@pytest.mark.triton
def test_check_tries_the_channels_secrets_and_contacts_nobody(site: Site, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k")
    hook = {"kind": "webhook", "url": "http://127.0.0.1:9", "signing_key": {"file": "key"}}
    channels = [
        {"name": "good"} | hook,
        {"name": "bad"} | hook | {"secret_headers": {"X-Token": {"file": "missing"}}},
        {"name": "pager", "kind": "alertmanager", "urls": ["http://127.0.0.1:9"]},
    ]
    done = here("check", site.configure(tmp_path, channels=channels), "--json")
    checks = {check["what"]: check for check in json.loads(done.stdout)["checks"]}
    assert (checks["channel good"]["ok"], checks["channel good"]["detail"]) == (
        True,
        f"can be read: {tmp_path / 'key'}",
    )
    assert (checks["channel bad"]["ok"], str(tmp_path / "missing") in checks["channel bad"]["detail"]) == (False, True)
    assert (checks["channel pager"]["ok"], checks["channel pager"]["detail"]) == (True, "needs no secret")


@pytest.mark.triton
def test_check_sees_an_engine_go_wrong(site: Site, tmp_path: Path) -> None:
    site.feel(2, Mood.NAN)
    done = here("check", site.configure(tmp_path), "--json")
    assert done.returncode == NOT_RIGHT
    wrong = {check["what"]: check["detail"] for check in json.loads(done.stdout)["checks"] if not check["ok"]}
    assert set(wrong) == {f"{MODEL} fast probe", f"{MODEL} public probe"}
    assert "non-finite" in wrong[f"{MODEL} fast probe"]


@pytest.mark.parametrize(
    ("what", "content", "said"),
    [
        ("recipe", None, "cannot read the recipe"),
        ("recipe", "- a", "must be a mapping"),
        ("recipe", "layout: X", "input: Field required"),
        ("canaries", None, "there is no canary file or folder"),
        ("canaries", "not DICOM", "holds no usable canary"),
    ],
)
@pytest.mark.triton
def test_check_says_which_input_can_not_be_used(
    site: Site, tmp_path: Path, what: str, content: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "given").write_text(content)
    inputs = {"path": str(site.folder / "canaries"), "recipe": str(site.folder / "recipe.yaml")}
    inputs["path" if what == "canaries" else "recipe"] = "given"
    done = here("check", site.configure(tmp_path, models=[site.model(canaries=inputs)]))
    assert (done.returncode, done.stderr) == (NOT_RIGHT, "")
    assert said in done.stdout


@pytest.mark.triton
def test_check_of_a_server_that_is_down(site: Site, tmp_path: Path) -> None:
    endpoints = [{"name": "triton", "kind": "triton-grpc", "url": "127.0.0.1:1"}]
    done = here("check", site.configure(tmp_path, endpoints=endpoints))
    assert done.returncode == NOT_RIGHT
    assert "refused (network)" in done.stdout


@pytest.mark.triton
@pytest.mark.parametrize(("mood", "code"), [(Mood.RIGHT, OK), (Mood.NAN, NOT_RIGHT)])
def test_probe_tells_the_whole_story(site: Site, tmp_path: Path, mood: Mood, code: int) -> None:
    site.feel(2, mood)
    config = site.configure(tmp_path)
    done = here("probe", config)
    assert (done.returncode, done.stderr) == (code, "")
    assert f"clear-01@opt → triton:{MODEL}: {'healthy' if code == OK else 'failed'}" in plain(done.stdout)
    assert f"answered by {MODEL}/2" in done.stdout
    story = json.loads(here("probe", config, "--engine", "fast", "--canary", "nodule-06@opt", "--json").stdout)
    assert (story["canary"], story["address"]) == ("nodule-06@opt", f"triton:{MODEL}/2")
    assert story["verdict"] == ("healthy" if code == OK else "failed")
    assert story["expected"] == "fast"
    safe = json.loads(here("probe", config, "--engine", "safe", "--json").stdout)
    assert (safe["verdict"], safe["answered_by"]) == ("healthy", f"{MODEL}/1")


@pytest.mark.triton
def test_probe_without_an_answer_is_unreachable(site: Site, tmp_path: Path) -> None:
    endpoints = [{"name": "triton", "kind": "triton-grpc", "url": "127.0.0.1:1"}]
    done = here("probe", site.configure(tmp_path, endpoints=endpoints))
    assert done.returncode == UNREACHABLE
    assert "no answer: refused (network)" in done.stdout


@pytest.mark.triton
def test_probe_of_what_there_is_not(site: Site, tmp_path: Path) -> None:
    config = site.configure(tmp_path)
    no_canary = here("probe", config, "--canary", "x")
    no_model = here("probe", config, "--model", "x")
    assert (no_canary.returncode, no_model.returncode) == (WRONG_CALL, WRONG_CALL)
    assert "--canary x: there are clear-01@opt, clear-02@opt" in no_canary.stderr
    assert f"--model x: the configuration has {MODEL}" in no_model.stderr
    (tmp_path / "two").mkdir()
    two = site.configure(tmp_path / "two", models=[site.model(), site.model(name="b", public={"model": MODEL})])
    undecided = here("probe", two)
    assert undecided.returncode == WRONG_CALL
    assert f"name one with --model: {MODEL}, b" in undecided.stderr


@pytest.mark.triton
def test_baseline_writes_what_check_then_accepts(site: Site, tmp_path: Path) -> None:
    config = site.configure(tmp_path, models=[site.model(baseline="mine")])
    done = here("baseline", config, "--repeats", 3)
    assert done.returncode == OK, done.stderr
    assert f"{MODEL}: 6 canaries, 3 times each, on triton" in plain(done.stdout)
    assert f"written to {tmp_path / 'mine'}" in done.stdout
    assert here("check", config).returncode == OK


@pytest.mark.triton
def test_a_baseline_without_device_times_says_so_and_why(site: Site, tmp_path: Path) -> None:
    listen = {"listen": "127.0.0.1:0"}
    done = here("baseline", site.configure(tmp_path, models=[site.model(baseline="mine")], traces=listen))
    assert done.returncode == OK, done.stderr
    assert "no device times are in the baseline (no trace came), so only the total time is watched" in plain(
        done.stdout
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen["listen"] = f"127.0.0.1:{taken.getsockname()[1]}"
        done = here("baseline", site.configure(tmp_path, models=[site.model(baseline="mine")], traces=listen))
    assert "(another watchdog has the traces' address: stop it first)" in plain(done.stdout)


@pytest.mark.triton
@pytest.mark.parametrize("mood", [Mood.ZEROS, Mood.NAN])
def test_no_baseline_is_captured_from_an_insane_engine(site: Site, tmp_path: Path, mood: Mood) -> None:
    site.feel(1, mood)
    done = here("baseline", site.configure(tmp_path, models=[site.model(baseline="mine")]), "--repeats", 3)
    assert (done.returncode, done.stdout) == (NOT_RIGHT, "")
    assert "no baseline was captured: " in plain(done.stderr)
    assert not (tmp_path / "mine").exists()


@pytest.mark.triton
def test_a_baseline_for_other_canaries_is_refused_with_what_differs(site: Site, tmp_path: Path) -> None:
    inputs = {"path": str(site.folder / "canaries/clear-01.dcm"), "recipe": str(site.folder / "recipe.yaml")}
    done = here("probe", site.configure(tmp_path, models=[site.model(canaries=inputs)]))
    assert done.returncode == WRONG_CALL
    assert "is not for what is in use:" in done.stderr
    assert "capture it again with `watchdog baseline CONFIG`" in done.stderr


# -- canaries --------------------------------------------------------------------------------


def test_canaries_are_made_and_inspected(tmp_path: Path) -> None:
    made = here("canaries", "make", tmp_path / "new", "--size", 64)
    seen = here("canaries", "inspect", tmp_path / "new")
    as_json = json.loads(here("canaries", "inspect", tmp_path / "new", "--json").stdout)
    assert (made.returncode, seen.returncode) == (OK, OK)
    assert made.stdout == f"wrote 12 slices and truth.yaml to {tmp_path / 'new'}\n"
    assert len(as_json) == 12
    assert len(plain(seen.stdout).splitlines()) == 13
    again = here("canaries", "make", tmp_path / "new", "--size", 64)
    assert again.returncode == WRONG_CALL
    assert "is not an empty folder" in again.stderr


def test_inspect_shows_odd_names_and_reasons_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "[bold]x[").mkdir()
    (tmp_path / "[bold]x[" / "y].dcm").write_bytes(b"nothing")
    done = here("canaries", "inspect", tmp_path)
    assert done.returncode == NOT_RIGHT
    assert "[bold]x[/y].dcm" in plain(done.stdout)
    gone = here("canaries", "inspect", tmp_path / "none")
    assert (gone.returncode, gone.stdout) == (WRONG_CALL, "")


# -- talking to a running watchdog: what stands in its place ------------------------------------


class Odd(BaseHTTPRequestHandler):
    """Not a watchdog."""

    answer = (200, "application/json", b"{}")
    seen: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        code, kind, body = self.answer
        self.seen.append((self.path, self.headers.get("Authorization")))
        self.send_response(code)
        self.send_header("Content-Type" if code < 300 else "Location", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None: ...


@contextlib.contextmanager
def standing_in(answer: tuple[int, str, bytes]) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    seen: list[tuple[str, str | None]] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Odd,), {"answer": answer, "seen": seen}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    "answer", [(200, "application/json", b"{}"), (200, "application/json", b"[1]"), (200, "text/html", b"<html>")]
)
@pytest.mark.parametrize("command", [["status"], ["hold", "m"]])
def test_what_is_no_watchdog_is_told_from_one(command: list[str], answer: tuple[int, str, bytes]) -> None:
    with standing_in(answer) as (url, _):
        done = here(*command, "--url", url)
    assert (done.returncode, done.stdout) == (UNREACHABLE, "")
    assert "watchdog" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_speaks_another_protocol() -> None:
    class Greeter(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1000)
            self.request.sendall(b"SSH-2.0-nothing\r\n\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Greeter) as server:
        threading.Thread(target=server.handle_request).start()
        done = here("status", "--url", f"http://127.0.0.1:{server.server_address[1]}")
    assert done.returncode == UNREACHABLE
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://", "http://[::1", "http://no-such-host.invalid"])
def test_nobody_there(url: str) -> None:
    done = here("status", "--url", url)
    assert (done.returncode, done.stdout) == (UNREACHABLE, "")
    assert f"no watchdog answers at {url}" in plain(done.stderr)
    assert "--url" in done.stderr


@pytest.mark.parametrize("url", ["127.0.0.1:9469", "file:///etc/hosts", "ftp://127.0.0.1"])
def test_an_url_of_another_kind(url: str) -> None:
    done = here("status", "--url", url)
    assert done.returncode == WRONG_CALL
    assert "must begin with http:// or https://" in done.stderr


def test_a_token_goes_to_nobody_else(tmp_path: Path) -> None:
    """Neither after a redirection, nor through the environment's proxy."""
    (tmp_path / "token").write_text("secret")
    with standing_in((200, "application/json", b'{"decisions": []}')) as (elsewhere, seen):
        with standing_in((302, f"{elsewhere}/api", b"")) as (url, _):
            redirected = here("hold", "m", "--url", url, "--token-file", tmp_path / "token")
        proxied = watchdog(
            "hold",
            "m",
            "--url",
            "http://127.0.0.1:1",
            "--token-file",
            tmp_path / "token",
            env={"http_proxy": elsewhere},
        )
    assert seen == []
    assert (redirected.returncode, proxied.returncode) == (NOT_RIGHT, UNREACHABLE)
    assert "says 302" in redirected.stderr


@pytest.mark.parametrize("content", ["tökén".encode(), b"\xff\xfe", None])
def test_a_token_file_that_can_not_be_used_is_named_but_not_shown(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    done = here("hold", "m", "--url", "http://127.0.0.1:1", "--token-file", file)
    assert (done.returncode, done.stdout) == (WRONG_CALL, "")
    assert f"--token-file: {file}" in done.stderr
    assert "two" not in done.stderr
    assert "Traceback" not in done.stderr


def test_any_model_name_is_asked_for_as_it_is() -> None:
    with standing_in((404, "-", b'{"error": "no model"}')) as (url, seen):
        done = here("hold", "a b/../../x?y", "--url", url)
    assert seen == [("/api/v1/models/a%20b%2F..%2F..%2Fx%3Fy/hold", None)]
    assert done.returncode == WRONG_CALL
    assert "says 404: no model" in done.stderr
