"""A real gRPC server whose answers are any bytes, or any status, that a test wants."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc  # type: ignore[import-untyped]
from tritonclient.grpc import service_pb2

Script = bytes | tuple[grpc.StatusCode, str]


class Peer(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers every method with `script`: a message's bytes, or a status and its text."""

    def __init__(self) -> None:
        self.script: Script = b""
        self.url = ""
        self.methods: list[str] = []
        self.metadata: list[dict[str, str]] = []

    def service(self, handler_call_details: Any) -> Any:
        self.methods.append(handler_call_details.method)
        self.metadata.append(dict(handler_call_details.invocation_metadata))
        return grpc.unary_unary_rpc_method_handler(self._answer)

    async def _answer(self, _: bytes, context: Any) -> bytes:
        if isinstance(self.script, tuple):
            await context.abort(*self.script)
        assert isinstance(self.script, bytes)
        return self.script


@asynccontextmanager
async def grpc_peer() -> AsyncIterator[Peer]:
    peer, server = Peer(), grpc.aio.server()
    server.add_generic_rpc_handlers((peer,))
    peer.url = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield peer
    finally:
        await server.stop(None)


def answer(*outputs: tuple[str, str, list[int]], raw: list[bytes]) -> bytes:
    """A ``ModelInferResponse`` of (name, datatype, shape), with these raw contents."""
    message = service_pb2.ModelInferResponse(model_name="m", model_version="1", raw_output_contents=raw)
    for name, datatype, shape in outputs:
        message.outputs.add(name=name, datatype=datatype, shape=shape)
    return bytes(message.SerializeToString())
