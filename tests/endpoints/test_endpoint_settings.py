"""The settings of endpoints: what they take, and what they say of what they don't."""

import subprocess
import sys
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from tests.endpoints.kinds import KINDS, settings_of
from watchdog.endpoints import _OPENERS
from watchdog.endpoints.server import ServerSettings
from watchdog.endpoints.tensorrt_engine import TensorRtSettings
from watchdog.transport import Place


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("127.0.0.1:8000", Place(scheme="", host_port="127.0.0.1:8000", prefix="")),
        ("[::1]:8000", Place(scheme="", host_port="[::1]:8000", prefix="")),
        ("http://triton:8000/", Place(scheme="http", host_port="triton:8000", prefix="")),
        ("https://a.example:443/b/c/", Place(scheme="https", host_port="a.example:443", prefix="/b/c")),
    ],
)
def test_addresses(url: str, place: Place) -> None:
    assert Place.parse(url) == place
    assert settings_of("oip-http", url).secure == (place.scheme == "https")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "triton",
        "http://triton",
        "triton:x",
        "triton:99999",
        "triton:0",
        "ftp://a:1",
        "grpc://a:1",
        ":80",
        "a b:80",
        "http://a:1?x=1",
        "http://a:1#x",
        "http://user:pass@a:1",
        "http://",
        "[::1:80",
    ],
)
def test_addresses_that_are_none(kind: str, url: str) -> None:
    with pytest.raises(ValidationError, match=r"host:port") as caught:
        settings_of(kind, url)
    assert caught.value.errors()[0]["loc"][-1] == "url"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"tls": {"cert": "c.pem"}}, "cert and key belong together"),
        ({"url": "http://a:1", "tls": {}}, "write https://, or remove tls"),
        ({"headers": {"a b": "c"}}, "no header name"),
        ({"headers": {"Content-Length": "3"}}, "can't be set"),
        ({"headers": {"a": "b\nc"}}, "one line of printable ASCII"),
        ({"headers": {"A": "b"}, "secret_headers": {"a": {"file": "f"}}}, "given twice"),
        ({"max_response_bytes": 0}, "greater than 0"),
        ({"shape": 1}, "not permitted"),
        ({"runtime": "8.5.3"}, "write the versions of TensorRT and CUDA as in trt8.5.3-cuda11.8"),
    ],
)
def test_settings_that_contradict(kind: str, more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        settings_of(kind, **{"url": "a:1", **more})


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"url": "http://a:1/b"}, "gRPC knows no path"),
        ({"headers": {"key-bin": "c"}}, "reserves"),
        ({"headers": {"grpc-timeout": "c"}}, "reserves"),
    ],
)
def test_what_grpc_has_not(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        settings_of("triton-grpc", **{"url": "a:1", **more})


@pytest.mark.parametrize("kind", ["triton-grpc", "triton-http"])
def test_tritons_metrics_are_a_server_of_their_own(kind: str) -> None:
    settings = settings_of(kind, "a:1", metrics={"url": "https://a:2"}, runtime="trt8.5.3-cuda11.8")
    assert settings.metrics.base_url == "https://a:2"
    assert settings.runtime == "trt8.5.3-cuda11.8"
    with pytest.raises(ValidationError, match="host:port"):
        settings_of(kind, "a:1", metrics={"url": "a"})


def test_reading_settings_loads_no_client_library() -> None:
    program = (
        "import sys, watchdog.endpoints\n"
        "heavy = {'aiohttp', 'grpc', 'tritonclient', 'google.protobuf'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_every_kind_is_in_the_suite() -> None:
    servers = [each for each in _OPENERS if issubclass(each, ServerSettings)]
    assert {get_args(each.model_fields["kind"].annotation)[0] for each in servers} == {
        each["kind"] for each in KINDS.values()
    }
    (elsewhere,) = set(_OPENERS) - set(servers)
    assert elsewhere is TensorRtSettings, "no server: it has a suite of its own"
