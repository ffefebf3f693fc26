"""Endpoints: servers that answer inference requests, and engines run in-process, one file a kind.

What belongs here: a kind's settings and its adapter of the `Endpoint` port, and what the kinds
share of the Open Inference Protocol. Nothing here judges an answer, and nothing raises for what a
server does. Libraries are imported where an endpoint is opened.

A new kind is one file, one member of `EndpointSettings` and one row of `_OPENERS`.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field

from watchdog.endpoints.oip_http import OipHttp, OipHttpSettings
from watchdog.endpoints.tensorrt_engine import TensorRtEngine, TensorRtSettings
from watchdog.endpoints.triton_grpc import TritonGrpc, TritonGrpcSettings
from watchdog.endpoints.triton_http import TritonHttp, TritonHttpSettings
from watchdog.ports import Endpoint

EndpointSettings = Annotated[
    TritonGrpcSettings | TritonHttpSettings | OipHttpSettings | TensorRtSettings, Field(discriminator="kind")
]

_OPENERS: Mapping[type[Any], Callable[[Any], Endpoint]] = {
    OipHttpSettings: OipHttp,
    TensorRtSettings: TensorRtEngine,
    TritonGrpcSettings: TritonGrpc,
    TritonHttpSettings: TritonHttp,
}


def open_endpoint(settings: EndpointSettings) -> Endpoint:
    """The endpoint of these settings. It connects on the first call; `close` it in the same event loop."""
    return _OPENERS[type(settings)](settings)
