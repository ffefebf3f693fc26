"""Triton over gRPC (kind ``triton-grpc``), through tritonclient's asyncio client."""

import time
from collections.abc import Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import model_validator

from watchdog.endpoints.connection import Connection
from watchdog.endpoints.description import Answers, offers_traces, optional
from watchdog.endpoints.failures import Reasons
from watchdog.endpoints.faults import TLS_FILES, FaultError, garbled, ruling
from watchdog.endpoints.headers import Headers
from watchdog.endpoints.server import TritonSettings
from watchdog.endpoints.statistics import read_statistics
from watchdog.endpoints.tensors import datatype_of, from_bytes
from watchdog.model.engine import Address, Answerer, Description
from watchdog.model.fault import Fault
from watchdog.model.load import Statistics
from watchdog.model.probe import InferRequest, Reply, Timing
from watchdog.model.tensor import Array
from watchdog.transport import one_line

if TYPE_CHECKING:
    from pathlib import Path


class TritonGrpcSettings(TritonSettings):
    """A restricted protocol's key is sent as the header ``triton-grpc-protocol-KEY``."""

    kind: Literal["triton-grpc"]

    @model_validator(mode="after")
    def _for_grpc(self) -> Self:
        if self.place.prefix:
            raise ValueError(f"gRPC knows no path: remove {self.place.prefix} from url")
        for name in (*self.headers, *self.secret_headers):
            if name.lower().endswith("-bin") or name.lower().startswith("grpc-"):
                raise ValueError(f"{name} is no header for text metadata: gRPC reserves grpc-* and *-bin")
        return self


class TritonGrpc:
    """One HTTP/2 connection for all calls."""

    def __init__(self, settings: TritonGrpcSettings) -> None:
        self._settings = settings
        self._connection = Connection(self._open, _close)
        self._reasons = Reasons(settings.metrics)

    async def infer(self, request: InferRequest, timeout_s: float) -> Reply | Fault:
        return await self._connection.settled(self._infer(request, timeout_s), timeout_s)

    async def describe(self, address: Address, timeout_s: float) -> Description | Fault:
        return await self._connection.settled(self._describe(address, timeout_s), timeout_s)

    async def statistics(self, address: Address, timeout_s: float) -> Statistics | Fault:
        counting = self._connection.settled(self._statistics(address, timeout_s), timeout_s)
        return await self._reasons.added(counting, address, timeout_s)

    async def close(self) -> None:
        await self._connection.close()

    async def _infer(self, request: InferRequest, timeout_s: float) -> Reply:
        from tritonclient.grpc import InferInput, InferRequestedOutput  # noqa: PLC0415 (heavy: only where it is used)

        sent_at, start = time.time(), time.perf_counter()
        inputs = [
            InferInput(name, array.shape, datatype_of(name, array)).set_data_from_numpy(array)
            for name, array in request.inputs.items()
        ]
        written = time.perf_counter()
        result = await self._call(
            "infer",
            request.headers,
            model_name=request.address.model,
            model_version=request.address.version,
            inputs=inputs,
            outputs=[InferRequestedOutput(name) for name in request.outputs],
            request_id=request.id,
            client_timeout=timeout_s,
        )
        answered = time.perf_counter()
        outputs, answered_by = decode(result.get_response(), request.outputs)
        end = time.perf_counter()
        timing = Timing(sent_at=sent_at, total_s=end - start, client_s=(written - start) + (end - answered))
        return Reply(outputs=outputs, answered_by=answered_by, timing=timing)

    async def _describe(self, address: Address, timeout_s: float) -> Description:
        which = {"model_name": address.model, "model_version": address.version}
        ask = partial(self._ask, timeout_s)
        model = await ask("get_model_metadata", **which)
        server = await ask("get_server_metadata")
        config = await optional(ask("get_model_config", **which))
        index = await optional(ask("get_model_repository_index"))
        tracing = await optional(ask("get_trace_settings", model_name=address.model)) if offers_traces(server) else None
        return Answers(
            model=model,
            server=server,
            config=None if config is None else config.get("config"),
            statistics=await optional(ask("get_inference_statistics", **which)),
            index=None if index is None else index.get("models"),
            tracing=None if tracing is None else _trace_settings(tracing),
        ).describe(address)

    async def _statistics(self, address: Address, timeout_s: float) -> Statistics:
        which = {"model_name": address.model, "model_version": address.version}
        return read_statistics(await self._ask(timeout_s, "get_inference_statistics", **which), address)

    async def _ask(self, timeout_s: float, method: str, **arguments: str) -> dict[str, Any]:
        """An answer in protobuf's JSON form."""
        answer: dict[str, Any] = await self._call(method, {}, as_json=True, client_timeout=timeout_s, **arguments)
        return answer

    async def _call(self, method: str, extra: Mapping[str, str], **arguments: Any) -> Any:
        from tritonclient.utils import InferenceServerException  # noqa: PLC0415 (as above)

        headers = Headers.of_call(self._settings, extra)
        metadata = {name.lower(): value for name, value in headers.values.items()}
        async with self._connection.lease() as client:
            try:
                return await getattr(client, method)(headers=metadata, **arguments)
            except InferenceServerException as error:
                status = str(error.status()).removeprefix("StatusCode.")
                text = one_line(str(error.message()), headers.hidden)
                raise FaultError(ruling(status, text).fault(f"{status}: {text}")) from error

    def _open(self) -> Any:
        from tritonclient.grpc.aio import InferenceServerClient  # noqa: PLC0415 (as above)

        return InferenceServerClient(
            self._settings.place.host_port, creds=self._credentials(), channel_args=self._channel_args()
        )

    def _channel_args(self) -> list[tuple[str, Any]]:
        name = self._settings.tls.server_name if self._settings.tls else None
        return [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", self._settings.max_response_bytes),
            ("grpc.enable_http_proxy", 0),  # as the HTTP kinds: the environment's proxies are not for a sidecar
            ("grpc.use_local_subchannel_pool", 1),  # so that a new client is a new connection, without back-off
            *([("grpc.ssl_target_name_override", name), ("grpc.default_authority", name)] if name else []),
        ]

    def _credentials(self) -> Any:
        if not self._settings.secure:
            return None
        import grpc  # type: ignore[import-untyped]  # noqa: PLC0415 (as above)

        tls = self._settings.tls
        return grpc.ssl_channel_credentials(
            root_certificates=_pem("ca", tls.ca if tls else None),
            private_key=_pem("key", tls.key if tls else None),
            certificate_chain=_pem("cert", tls.cert if tls else None),
        )


def _trace_settings(answer: Mapping[str, Any]) -> dict[str, Any]:
    """As HTTP has them, but each value is a list."""
    return {name: each.get("value", []) for name, each in answer.get("settings", {}).items()}


async def _close(client: Any) -> None:
    await client.close()


def _pem(field: str, file: "Path | None") -> bytes | None:
    if file is None:
        return None
    try:
        return file.read_bytes()
    except OSError as error:
        raise FaultError(TLS_FILES.fault(f"tls.{field}: cannot read {file}: {error.strerror}")) from error


def decode(response: Any, wanted: Collection[str]) -> tuple[dict[str, Array], Answerer]:
    """The wanted outputs (all, where none are named) of a ``ModelInferResponse``, and who answered."""
    if response is None:  # what gRPC makes of bytes that are no such message
        raise garbled("the answer is no ModelInferResponse")
    if not response.outputs:
        raise garbled("the answer holds no outputs")
    if len(response.raw_output_contents) != len(response.outputs):
        raise garbled(f"{len(response.outputs)} outputs, but raw bytes of {len(response.raw_output_contents)}")
    outputs: dict[str, Array] = {}
    for at, output in enumerate(response.outputs):
        if output.name in outputs:
            raise garbled(f"output {output.name!r} comes twice")
        if not wanted or output.name in wanted:
            raw = response.raw_output_contents[at]
            outputs[output.name] = from_bytes(output.name, output.datatype, tuple(output.shape), raw)
    return outputs, Answerer(model=response.model_name, version=response.model_version)
