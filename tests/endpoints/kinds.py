"""The kinds of endpoint that the contract suite runs on."""

from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter

from watchdog.demo.triton import TritonServer
from watchdog.endpoints import EndpointSettings
from watchdog.ports import Endpoint

KINDS: dict[str, dict[str, Any]] = {
    "triton-grpc": {"kind": "triton-grpc"},
    "triton-http": {"kind": "triton-http"},
    "oip-http": {"kind": "oip-http"},
    "oip-http-binary": {"kind": "oip-http", "binary": True},
}
"""Every way there is to speak to a server. A new kind joins here, and the suite tests it."""

Open = Callable[..., Endpoint]


def settings_of(kind: str, url: str, **more: Any) -> Any:
    adapter: TypeAdapter[Any] = TypeAdapter(EndpointSettings)
    return adapter.validate_python({"name": "e", "url": url, **KINDS[kind], **more})


def url_of(triton: TritonServer, kind: str) -> str:
    return triton.grpc_url if kind == "triton-grpc" else triton.http_url
