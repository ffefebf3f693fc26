"""The configuration file: what a person gets wrong, and what the watchdog says of it."""

import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from watchdog.config import Config, ConfigError, read
from watchdog.endpoints.server import ServerSettings

VALID = """\
state: state
api:
  listen: 127.0.0.1:9469
endpoints:
  - name: triton
    kind: triton-grpc
    url: 127.0.0.1:8001
models:
  - name: nodule
    endpoint: triton
    engines:
      fast: {version: 2}
      safe: {version: 1}
    canaries: {path: canaries, recipe: recipe.yaml}
    baseline: baseline
    outputs:
      - {name: probability, kind: probability}
    probe:
      every: 10s
    policy: {action: rollback}
    router: {kind: triton, url: "127.0.0.1:8000"}
channels:
  - name: hook
    kind: webhook
    url: http://127.0.0.1:9/
    signing_key: {file: key}
"""

QUOTE = "put it into quotes"
NO_DURATION = "is not a duration; write a number with a unit: us, ms, s, m, h or d"
NO_ADDRESS = (
    "write host:port or http(s)://host:port[/prefix], such as 127.0.0.1:8000 or https://triton.example:8443 (got "
)
NO_LISTEN = "write host:port, such as 127.0.0.1:9469 or [::1]:9469, with a port up to 65535 (got "
TOP = "allowed are state, api, endpoints, models, channels, heartbeats, modules, journal, sharing, traces, gpu"

MISTAKES = [
    # what is written, what is written instead, and what is said, after the file's name
    ("state: state", "stat: state", f":1: stat: unknown key; {TOP}"),
    (
        "fast: {version: 2}",
        "fast: {version: 2, modell: m}",
        ":12: models[0].engines.fast.modell: unknown key; allowed are version, model, endpoint",
    ),
    (
        '"127.0.0.1:8000"}',
        '"127.0.0.1:8000", x: 1}',
        (
            ":21: models[0].router.x: unknown key;"
            " allowed are tls, headers, secret_headers, url, kind, timeout, metrics, load_needs"
        ),
    ),
    (
        "    signing_key: {file: key}\n",
        "    signing_key: {file: key}\n    tls: {caa: ca.pem}\n",
        ":27: channels[0].tls.caa: unknown key; allowed are ca, cert, key, server_name",
    ),
    ("    baseline: baseline\n", "", ":9: models[0].baseline: is required"),
    (", recipe: recipe.yaml", "", ":14: models[0].canaries.recipe: is required"),
    ("    kind: triton-grpc\n", "", ":5: endpoints[0].kind: is required"),
    (
        "    endpoint: triton\n",
        "    endpoint: triton\n    endpoint: other\n",
        ":11: not YAML: 'endpoint' is given twice",
    ),
    (
        "kind: triton-grpc",
        "kind: triton",
        (
            ":6: endpoints[0].kind: 'triton' is not known; "
            "allowed are 'triton-grpc', 'triton-http', 'oip-http', 'tensorrt'"
        ),
    ),
    (
        "{kind: triton,",
        "{kind: traefik,",
        (
            ":21: models[0].router.kind: 'traefik' is not known; allowed are"
            " 'triton', 'envoy', 'haproxy', 'gateway-api', 'kserve', 'webhook', 'pull', 'dry-run'"
        ),
    ),
    (
        "kind: webhook",
        "kind: mail",
        ":24: channels[0].kind: 'mail' is not known; allowed are 'alertmanager', 'pagerduty', 'webhook'",
    ),
    ("every: 10s", "every: 10", f":19: models[0].probe.every: 10 {NO_DURATION} (got 10)"),
    ("every: 10s", "every: 10.0", f":19: models[0].probe.every: 10.0 {NO_DURATION} (got 10.0)"),
    ("every: 10s", "every: -1s", f":19: models[0].probe.every: '-1s' {NO_DURATION} (got '-1s')"),
    ("every: 10s", "every: 0s", ":19: models[0].probe.every: Input should be greater than 0 (got '0s')"),
    (
        "name: nodule",
        "name: yes",
        f":9: models[0].name: Input should be a valid string (got True); YAML reads yes as bool: {QUOTE}",
    ),
    (
        "endpoint: triton",
        "endpoint: on",
        f":10: models[0].endpoint: Input should be a valid string (got True); YAML reads on as bool: {QUOTE}",
    ),
    (
        "action: rollback",
        "action: off",
        (
            ":20: models[0].policy.action: Input should be 'alert' or 'rollback' (got False);"
            f" YAML reads off as bool: {QUOTE}"
        ),
    ),
    (
        "version: 2",
        "version: 2.0",
        (
            ":12: models[0].engines.fast.version: Input should be a valid string (got 2.0);"
            f" YAML reads 2.0 as float: {QUOTE}"
        ),
    ),
    (
        "kind: probability}",
        "kind: prob}",
        (
            ":17: models[0].outputs[0].kind: Input should be 'probability', 'probabilities', 'logit', 'logits', 'mask'"
            " or 'tensor' (got 'prob')"
        ),
    ),
    (
        "127.0.0.1:8001",
        "localhost",
        f":7: endpoints[0].url: 'localhost' is no server's address; {NO_ADDRESS}'localhost')",
    ),
    (
        "127.0.0.1:8001",
        "ftp://h:1",
        f":7: endpoints[0].url: the scheme 'ftp' is not known; {NO_ADDRESS}'ftp://h:1')",
    ),
    ("127.0.0.1:8001", "http://h:1/x", ":5: endpoints[0]: gRPC knows no path: remove /x from url"),
    (
        "http://127.0.0.1:9/",
        "127.0.0.1:9",
        ":25: channels[0].url: not an http:// or https:// URL with a host (got '127.0.0.1:9')",
    ),
    (
        "endpoint: triton",
        "endpoint: tritn",
        ":10: models[0].endpoint: there is no endpoint 'tritn'; known are triton",
    ),
    (
        "safe: {version: 1}",
        "safe: {version: 1, endpoint: b}",
        ":21: models[0].router: a triton router moves within one server, not from triton to b",
    ),
    (
        "    canaries: {",
        "    public: {endpoint: b}\n    canaries: {",
        ":14: models[0].public.endpoint: there is no endpoint 'b'; known are triton",
    ),
    (
        "version: 2",
        "version: 1",
        ":11: models[0].engines: fast and safe are the same engine; give them different versions or models",
    ),
    (
        "fast: {version: 2}",
        "fast: {}",
        ":12: models[0].engines.fast: is the public name itself; give it a version, a model or an endpoint of its own",
    ),
    (
        '    router: {kind: triton, url: "127.0.0.1:8000"}\n',
        "",
        ":20: models[0].policy.action: is rollback, but there is no router to do it with",
    ),
    (
        "safe: {version: 1}",
        "safe: {version: 3}",
        (
            ":21: models[0].router: engines.fast.version must be higher than engines.safe.version:"
            " Triton gives requests that name no version to the highest READY one"
        ),
    ),
    (
        "version: 2",
        "version: v2",
        ":21: models[0].router: a triton router needs engines.fast.version, a whole number from 1",
    ),
    (
        "channels:\n",
        "channels:\n  - {name: hook, kind: webhook, url: 'http://h:1/', signing_key: {file: k}}\n",
        ":24: channels[1].name: 'hook' is given twice",
    ),
    (
        "      - {name: probability, kind: probability}\n",
        "      - {name: probability}\n      - {name: probability}\n",
        ":18: models[0].outputs[1].name: 'probability' is given twice",
    ),
    ("127.0.0.1:9469", "127.0.0.1", f":3: api.listen: {NO_LISTEN}'127.0.0.1')"),
    ("127.0.0.1:9469", "127.0.0.1:70000", f":3: api.listen: {NO_LISTEN}'127.0.0.1:70000')"),
    (
        "  listen: 127.0.0.1:9469",
        "  token: 12345",
        ":3: api.token: must hold keys and values (got 12345)",
    ),
    ("canaries: {path: canaries, recipe: recipe.yaml}", "canaries: canaries", ":14: models[0].canaries: must hold"),
    ("state: state", "state:", ":1: state: must be a path (got None)"),
    ("models:\n  - name", "models:\n    name", ":8: models: must be a list"),
    (
        "    endpoint: triton\n",
        "\tendpoint: triton\n",
        (
            r":10: not YAML: while scanning for the next token, found character '\t' that cannot start any token;"
            " indent with spaces, not with tabs"
        ),
    ),
    ("state: state", "state: *x", ":1: not YAML: found undefined alias 'x'"),
    ("state: state", "state: 2020-13-45", ":1: not YAML: '2020-13-45' can't be read as timestamp: month must be"),
    ("state: state", "state: !!bool maybe", ":1: not YAML: 'maybe' can't be read as bool"),
    ("state: state", "state: !!python/name:os.system ''", ":1: not YAML: could not determine a constructor"),
    ("state: state", "state: a\0b", ":1: not YAML: the character U+0000 is not allowed"),
    ("state: state", "? [a]\n: b", ":1: not YAML: while constructing a mapping, found unhashable key"),
    (
        "    signing_key: {file: key}\n",
        "    signing_key: {file: key}\n---\n{}\n",
        ":27: not YAML: expected a single document in the stream, but found another document",
    ),
    ("    url: http", "    headers: {a b: c}\n    url: http", ":25: channels[0].headers.a b: 'a b' is no header name"),
    (
        "    baseline: baseline\n",
        "    baseline: baseline\n    drift: {live: {reference: 300}}\n",
        (
            ":16: models[0].drift.live: reference: 300 are too few; 1 readings with '1 per year at 1/s'"
            " need 373 observations or more"
        ),
    ),
    (
        "    baseline: baseline\n",
        "    baseline: baseline\n    drift: {live: {readings: [volume]}}\n",
        ":16: models[0].drift.live: readings: there is no 'volume'; the outputs have probability",
    ),
    (
        "    baseline: baseline\n",
        "    baseline: baseline\n    drift: {live: {false_alarms: 1 per year}}\n",
        (
            ":16: models[0].drift.live.false_alarms: '1 per year' does not say how often observations come;"
            " write `1 per year at 1/s` (got '1 per year')"
        ),
    ),
    (
        "    baseline: baseline\n",
        "    baseline: baseline\n    drift: {canary: {false_alarms: 1 per hour}}\n",
        (
            ":16: models[0].drift.canary.false_alarms: '1 per hour' allows a false alarm every 360 observations;"
            " at least 1000 make a promise"
        ),
    ),
    (
        "    baseline: baseline\n",
        "    baseline: baseline\n    drift: {shadow: {rate: 2}}\n",
        ":16: models[0].drift.shadow.rate: Input should be less than or equal to 1 (got 2)",
    ),
]


def problems(folder: Path, content: bytes) -> list[str]:
    """What is said of a file, without its name."""
    file = folder / "watchdog.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read(file)
    assert str(caught.value) == "\n".join(caught.value.problems)
    assert all(problem.startswith(f"{file}:") for problem in caught.value.problems)
    return [problem.removeprefix(str(file)) for problem in caught.value.problems]


MODULES = """\
modules:
  - name: m
    model: nodule
    engine: public
    targets: ["triton-*.imaging:8001"]
    deadline: 2s
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("model: nodule", "model: nodul", ":29: modules[0].model: there is no model 'nodul'; known are nodule"),
        ("engine: public", "engine: slow", ":30: modules[0].engine: Input should be 'public', 'fast' or 'safe'"),
        ('["triton-*.imaging:8001"]', "[]", ":31: modules[0].targets: needs at least 1, but there are 0"),
        ("triton-*.imaging:8001", "*:8001", ":31: modules[0].targets[0]: '*:8001' leaves the whole host open: "),
        (
            "triton-*.imaging:8001",
            "triton-*",
            ":31: modules[0].targets[0]: 'triton-*' is nothing that triton could be: ",
        ),
        (
            ".imaging:8001",
            ":8001/v2",
            ":31: modules[0].targets[0]: 'triton-*:8001/v2' is nothing that triton could be: ",
        ),
        ("deadline: 2s", "deadline: 2", ":32: modules[0].deadline: 2 is not a duration"),
        (
            "- name: m",
            "- {name: m, model: nodule, targets: [t:1]}\n  - name: m",
            ":29: modules[1].name: 'm' is given twice",
        ),
    ],
)
def test_what_can_be_wrong_with_a_module(tmp_path: Path, old: str, new: str, said: str) -> None:
    (problem,) = problems(tmp_path, (VALID + MODULES.replace(old, new, 1)).encode())
    assert problem.startswith(said)


def test_a_module_needs_a_server(tmp_path: Path) -> None:
    text = VALID.replace("kind: triton-grpc\n    url: 127.0.0.1:8001", "kind: tensorrt\n    path: engines")
    (problem,) = problems(tmp_path, (text + MODULES).encode())
    assert "targets[0]: triton is an engine in this process: a module needs a server's endpoint" in problem


@pytest.mark.parametrize(("old", "new", "said"), MISTAKES, ids=[said.split(": ", 1)[1][:60] for _, _, said in MISTAKES])
def test_one_mistake_is_one_line_that_says_where_what_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert VALID.count(old) >= 1
    (problem,) = problems(tmp_path, VALID.replace(old, new, 1).encode())
    assert problem.startswith(said)
    if not said.endswith(("hold", "must be", "as bool", "constructor", "header name")):
        assert problem == said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", ": must hold keys and values at its top level, such as `endpoints:` and `models:`"),
        (b"# nothing yet\n", ": must hold keys and values at its top level, such as `endpoints:` and `models:`"),
        (b"- a\n- b\n", ": must hold keys and values at its top level, such as `endpoints:` and `models:`"),
        (b"state: a\napi: \xff\n", ":2: not UTF-8 text: invalid start byte (byte 14)"),
        (VALID.encode("utf-16"), ":1: not UTF-8 text: invalid start byte (byte 0)"),
        (b"#" * (4 * 2**20 + 1), ": larger than 4 MiB; is it the right file?"),
        (b"a: " + b"[" * 5000 + b"]" * 5000, ": nested too deeply"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, content: bytes, said: str) -> None:
    assert problems(tmp_path, content) == [said]


def test_a_number_beyond_all_bounds(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, b"state: " + b"1" * 5000)
    assert problem.startswith(":1: not YAML: '111")
    assert len(problem) < 400


def test_several_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = VALID.replace("every: 10s", "every: 10").replace("state: state", "stat: state")
    assert [problem.split(":")[1] for problem in problems(tmp_path, text.encode())] == ["19", "1"]


def test_a_value_full_of_aliases_is_told_in_short(tmp_path: Path) -> None:
    """Nine lines that would be 10⁹ words, written out."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    said = problems(tmp_path, "\n".join([*lines, "endpoints: *a8", "models: *a8"]).encode())
    assert all(len(problem) < 1000 for problem in said)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path / "none.yaml")
    assert caught.value.problems == (f"{tmp_path}/none.yaml: can't be read: No such file or directory",)


def test_a_folder_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path)
    assert caught.value.problems == (f"{tmp_path}: can't be read: Is a directory",)


def config(folder: Path, text: str = VALID) -> Config:
    (folder / "watchdog.yaml").write_text(text)
    return read(folder / "watchdog.yaml")


def test_relative_paths_start_at_the_file_wherever_it_is_read_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = "    tls: {ca: ca.pem, cert: certs/a.pem, key: /etc/a.key}\n    secret_headers: {X-Key: {file: ../x}}\n"
    text = VALID.replace("    url: 127.0.0.1:8001\n", f"    url: 127.0.0.1:8001\n{tls}").replace(
        "  listen: 127", "  token: {file: token}\n  listen: 127"
    )
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/watchdog.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    read_here = read(Path("etc/watchdog.yaml"))
    folder = tmp_path / "etc"
    (model,), (endpoint,), (channel,) = read_here.models, read_here.endpoints, read_here.channels

    assert read_here.state == folder / "state"
    assert (model.baseline, model.canaries.path, model.canaries.recipe) == (
        folder / "baseline",
        folder / "canaries",
        folder / "recipe.yaml",
    )
    assert read_here.api.token is not None
    assert read_here.api.token.file == folder / "token"
    assert isinstance(endpoint, ServerSettings)
    assert endpoint.tls is not None
    assert (endpoint.tls.ca, endpoint.tls.cert) == (folder / "ca.pem", folder / "certs/a.pem")
    assert endpoint.tls.key == Path("/etc/a.key")
    assert endpoint.secret_headers["X-Key"].file == folder / "../x"
    assert channel.kind == "webhook"
    assert channel.signing_key.file == folder / "key"


def test_a_state_folder_that_is_not_named_is_beside_the_file_too(tmp_path: Path) -> None:
    assert config(tmp_path, VALID.replace("state: state\n", "")).state == tmp_path / "watchdog-state"


def test_words_that_look_odd_are_taken_as_they_are(tmp_path: Path) -> None:
    """`n` and `y` are text to this YAML, a number is a fine version, and merged keys may be overridden."""
    text = VALID.replace("name: nodule", "name: n").replace(
        "safe: {version: 1}", "safe: {<<: &y {version: 9}, version: 1}"
    )
    model = config(tmp_path, text).models[0]
    assert (model.name, model.engines.fast.version, model.engines.safe.version) == ("n", "2", "1")


def read_or_refuse(folder: Path, content: bytes) -> None:
    file = folder / "watchdog.yaml"
    file.write_bytes(content)
    try:
        said: Config | ConfigError = read(file)
    except ConfigError as error:
        said = error
    told = said.problems if isinstance(said, ConfigError) else ["a configuration"]
    assert told
    assert all(len(problem) < 2000 for problem in told)


KEYS = st.sampled_from(sorted({*Config.model_fields, "name", "kind", "url", "engines", "fast", "tls", "headers", "x"}))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.dates(),
    st.sampled_from(["triton", "triton-grpc", "webhook", "10s", "127.0.0.1:1", "rollback"]),
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(TREES)
def test_any_structure_is_a_config_or_a_config_error(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    text = yaml.safe_dump(tree, allow_unicode=True)
    read_or_refuse(tmp_path_factory.getbasetemp(), text.encode("utf-8", errors="surrogateescape"))


def paths(node: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    steps = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [at, *(path for step, inner in steps for path in paths(inner, (*at, step)))]


@given(st.data())
def test_any_value_anywhere_is_a_config_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    tree = yaml.safe_load(VALID)
    *way, last = data.draw(st.sampled_from(paths(tree)[1:]))
    node = tree
    for step in way:
        node = node[step]
    node[last] = data.draw(TREES)
    read_or_refuse(tmp_path_factory.getbasetemp(), yaml.safe_dump(tree).encode())


@given(st.randoms(use_true_random=False), st.integers(1, 6))
def test_any_bytes_are_a_config_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, rng: random.Random, changes: int
) -> None:
    content = bytearray(VALID.encode())
    for _ in range(changes):
        at, length = rng.randrange(len(content)), rng.randrange(4)
        content[at : at + length] = rng.choice(
            [rng.randbytes(2), b"!!int", b"&a", b"*a", b"<<", b": ", b"- ", b"{", b"]"]
        )
    read_or_refuse(tmp_path_factory.getbasetemp(), bytes(content))
