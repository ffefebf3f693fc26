"""Any server of the Open Inference Protocol v2 over HTTP, such as KServe or MLServer (kind ``oip-http``)."""

import json
from typing import TYPE_CHECKING, Any, Literal

from watchdog.endpoints.faults import REJECTED, FaultError
from watchdog.endpoints.server import ServerSettings
from watchdog.endpoints.tensors import datatype_of
from watchdog.model.engine import Address, Description
from watchdog.model.fault import Fault
from watchdog.model.load import Statistics
from watchdog.model.probe import InferRequest, Reply

if TYPE_CHECKING:
    from watchdog.endpoints.http_server import Body


class OipHttpSettings(ServerSettings):
    kind: Literal["oip-http"]
    binary: bool = False
    """Whether the server knows the binary tensor extension; without it a 512×512 image takes 5 MB of JSON."""


class OipHttp:
    """Speaks plain JSON, or the binary tensor extension where the settings say so.

    Answers are understood in both forms whatever was asked for.
    """

    def __init__(self, settings: OipHttpSettings) -> None:
        from watchdog.endpoints.http_server import HttpServer  # noqa: PLC0415 (aiohttp only where it is used)

        self._server = HttpServer(settings)
        self._encode = _binary if settings.binary else _plain

    async def infer(self, request: InferRequest, timeout_s: float) -> Reply | Fault:
        return await self._server.infer(request, self._encode, timeout_s)

    async def describe(self, address: Address, timeout_s: float) -> Description | Fault:
        return await self._server.describe(address, timeout_s)

    async def statistics(self, address: Address, timeout_s: float) -> Statistics | Fault:
        return await self._server.statistics(address, timeout_s)

    async def close(self) -> None:
        await self._server.close()


def _plain(request: InferRequest) -> "Body":
    from watchdog.endpoints.http_server import Body  # noqa: PLC0415 (as above)

    inputs = [{**_head(request, name), "data": array.ravel().tolist()} for name, array in request.inputs.items()]
    try:
        return Body(content=_json(request, inputs, [{"name": name} for name in request.outputs]))
    except ValueError as error:
        raise FaultError(REJECTED.fault("an input holds NaN or infinity, which JSON can't carry")) from error


def _binary(request: InferRequest) -> "Body":
    from watchdog.endpoints.http_server import Body  # noqa: PLC0415 (as above)

    inputs = [
        {**_head(request, name), "parameters": {"binary_data_size": array.nbytes}}
        for name, array in request.inputs.items()
    ]
    outputs = [{"name": name, "parameters": {"binary_data": True}} for name in request.outputs]
    head = _json(request, inputs, outputs, parameters={} if outputs else {"binary_data_output": True})
    content = b"".join([head, *(array.tobytes() for array in request.inputs.values())])
    return Body(content=content, content_type="application/octet-stream", json_length=len(head))


def _head(request: InferRequest, name: str) -> dict[str, Any]:
    array = request.inputs[name]
    return {"name": name, "shape": list(array.shape), "datatype": datatype_of(name, array)}


def _json(
    request: InferRequest,
    inputs: list[dict[str, Any]],
    outputs: list[dict[str, Any]],
    parameters: dict[str, Any] | None = None,
) -> bytes:
    optional = {"id": request.id, "parameters": parameters, "outputs": outputs}
    body = {"inputs": inputs, **{key: value for key, value in optional.items() if value}}
    return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
