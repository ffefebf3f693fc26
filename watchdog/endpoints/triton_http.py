"""Triton over HTTP (kind ``triton-http``): requests as tritonclient builds them, tensors as raw bytes."""

from typing import TYPE_CHECKING, Literal

from watchdog.endpoints.failures import Reasons
from watchdog.endpoints.server import TritonSettings
from watchdog.endpoints.tensors import datatype_of
from watchdog.model.engine import Address, Description
from watchdog.model.fault import Fault
from watchdog.model.load import Statistics
from watchdog.model.probe import InferRequest, Reply

if TYPE_CHECKING:
    from watchdog.endpoints.http_server import Body


class TritonHttpSettings(TritonSettings):
    kind: Literal["triton-http"]


class TritonHttp:
    """Sends what tritonclient would send; reads the answer strictly, which tritonclient does not."""

    def __init__(self, settings: TritonHttpSettings) -> None:
        from watchdog.endpoints.http_server import HttpServer  # noqa: PLC0415 (aiohttp only where it is used)

        self._server = HttpServer(settings)
        self._reasons = Reasons(settings.metrics)

    async def infer(self, request: InferRequest, timeout_s: float) -> Reply | Fault:
        return await self._server.infer(request, _encode, timeout_s)

    async def describe(self, address: Address, timeout_s: float) -> Description | Fault:
        return await self._server.describe(address, timeout_s)

    async def statistics(self, address: Address, timeout_s: float) -> Statistics | Fault:
        return await self._reasons.added(self._server.statistics(address, timeout_s), address, timeout_s)

    async def close(self) -> None:
        await self._server.close()


def _encode(request: InferRequest) -> "Body":
    from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput  # noqa: PLC0415 (as above)

    from watchdog.endpoints.http_server import Body  # noqa: PLC0415 (as above)

    inputs = [
        InferInput(name, list(array.shape), datatype_of(name, array)).set_data_from_numpy(array)
        for name, array in request.inputs.items()
    ]
    content, json_length = InferenceServerClient.generate_request_body(
        inputs, outputs=[InferRequestedOutput(name) for name in request.outputs], request_id=request.id
    )
    return Body(content=content, content_type="application/octet-stream", json_length=json_length)
