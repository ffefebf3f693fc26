"""TLS, client certificates, restricted APIs and secrets that are rotated, for every kind."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme

from tests.endpoints.hostile import read_request, relay, response, tcp_server
from tests.endpoints.kinds import Open
from tests.triton_fixture import Scale, write_scale_model
from watchdog.demo.triton import TritonServer, available
from watchdog.model.engine import Address, Description, Tracing
from watchdog.model.fault import Blame, Fault, FaultKind
from watchdog.model.load import Statistics
from watchdog.model.probe import InferRequest, Reply

pytestmark = pytest.mark.triton

SECRET = "s3cret-of-the-house"
SCALE = Address(endpoint="e", model="scale", version="1")
REQUEST = InferRequest(address=SCALE, inputs={"X": np.ones((1, 3), np.float32)})


@dataclass(frozen=True)
class Secured:
    """A Triton behind mutual TLS whose inference and statistics want a header."""

    triton: TritonServer
    folder: Path
    server_side: ssl.SSLContext

    @property
    def tls(self) -> dict[str, Any]:
        return {name: self.folder / f"{name}.pem" for name in ("ca", "cert", "key")}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    if (missing := available()) is not None:
        pytest.skip(missing)
    folder: Path = tmp_path_factory.mktemp("secured")
    ca, server, client = trustme.CA(), None, None
    server, client = ca.issue_cert("127.0.0.1", "triton.example"), ca.issue_cert("watchdog.example")
    ca.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other-ca.pem")
    for name, issued in (("", client), ("server-", server)):
        issued.private_key_pem.write_to_path(folder / f"{name}key.pem")
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}cert.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.pem"))
    server.configure_cert(context)
    context.verify_mode = ssl.CERT_REQUIRED
    triton = TritonServer(
        write_scale_model(folder / "models", {1: Scale()}),
        folder / "work",
        models=["scale"],
        extra_args=[
            f"--http-restricted-api=inference,statistics:house-key={SECRET}",
            f"--grpc-restricted-protocol=inference,statistics:house-key={SECRET}",
            "--grpc-use-ssl=1",
            "--grpc-use-ssl-mutual=1",
            f"--grpc-server-cert={folder / 'server-cert.pem'}",
            f"--grpc-server-key={folder / 'server-key.pem'}",
            f"--grpc-root-cert={folder / 'ca.pem'}",
        ],
    )
    triton.start()
    yield Secured(triton, folder, context)
    triton.kill()


@pytest.fixture
async def url(secured: Secured, kind: str) -> AsyncIterator[str]:
    """Where `kind` meets TLS: Triton itself for gRPC, a proxy before its HTTP port."""
    if kind == "triton-grpc":
        yield secured.triton.grpc_url
        return

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await relay(secured.triton.http_url, reader, writer)

    async with tcp_server(proxy, secured.server_side) as address:
        yield address


def key_name(kind: str) -> str:
    return "Triton-gRPC-Protocol-house-key" if kind == "triton-grpc" else "house-key"


async def test_with_certificates_and_key(secured: Secured, kind: str, url: str, open_at: Open) -> None:
    endpoint = open_at(kind, f"https://{url}", tls=secured.tls, headers={key_name(kind): SECRET})
    assert isinstance(answer := await endpoint.infer(REQUEST, 10), Reply), answer
    described = await endpoint.describe(SCALE, 10)
    assert isinstance(described, Description)
    assert described.counters is not None
    assert described.tracing == Tracing(on=False, mode="triton", rate=1000)
    assert isinstance(counted := await endpoint.statistics(SCALE, 10), Statistics), counted


async def test_a_header_of_one_request(secured: Secured, kind: str, url: str, open_at: Open) -> None:
    endpoint = open_at(kind, url, tls=secured.tls)
    request = InferRequest(address=SCALE, inputs=REQUEST.inputs, headers={key_name(kind): SECRET})
    assert isinstance(answer := await endpoint.infer(request, 10), Reply), answer


async def test_without_the_key(secured: Secured, kind: str, url: str, open_at: Open) -> None:
    endpoint = open_at(kind, url, tls=secured.tls)
    answer = await endpoint.infer(REQUEST, 10)
    assert isinstance(answer, Fault)
    assert (answer.kind, answer.blame, answer.retry) == (FaultKind.FORBIDDEN, Blame.CLIENT, False)
    assert "restricted" in answer.detail
    described = await endpoint.describe(SCALE, 10)
    assert isinstance(described, Description), described
    assert described.versions == ("1",)
    assert described.counters is None
    counted = await endpoint.statistics(SCALE, 10)
    assert isinstance(counted, Fault)
    assert counted.kind is FaultKind.FORBIDDEN


async def test_a_secret_is_rotated(secured: Secured, kind: str, url: str, open_at: Open, tmp_path: Path) -> None:
    file = tmp_path / "key"
    endpoint = open_at(kind, url, tls=secured.tls, secret_headers={key_name(kind): {"file": file}})
    for content in (None, "yesterday's", "two\nlines", ""):
        if content is not None:
            file.write_text(content)
        answer = await endpoint.infer(REQUEST, 10)
        assert isinstance(answer, Fault)
        assert (answer.kind, answer.blame) == (FaultKind.FORBIDDEN, Blame.CLIENT)
        assert not content or content not in answer.detail
    file.write_text(f"{SECRET}\n")
    assert isinstance(answer := await endpoint.infer(REQUEST, 10), Reply), answer


@pytest.mark.parametrize(
    "change",
    [
        {"ca": "other-ca.pem"},
        {"ca": None},
        {"server_name": "somebody.else"},
    ],
    ids=["wrong ca", "system's ca", "wrong name"],
)
async def test_a_server_that_is_not_trusted(
    secured: Secured, kind: str, url: str, open_at: Open, change: dict[str, str | None]
) -> None:
    tls = {**secured.tls, **change}
    if change.get("ca"):
        tls["ca"] = secured.folder / str(change["ca"])
    answer = await open_at(kind, url, tls=tls).infer(REQUEST, 10)
    assert isinstance(answer, Fault)
    assert (answer.kind, answer.blame) == (FaultKind.TLS, Blame.NETWORK), answer


async def test_another_name_than_the_hosts(secured: Secured, kind: str, url: str, open_at: Open) -> None:
    tls = {**secured.tls, "server_name": "triton.example"}
    endpoint = open_at(kind, url, tls=tls, headers={key_name(kind): SECRET})
    assert isinstance(answer := await endpoint.infer(REQUEST, 10), Reply), answer


async def test_without_a_client_certificate(secured: Secured, kind: str, url: str, open_at: Open) -> None:
    answer = await open_at(kind, url, tls={"ca": secured.folder / "ca.pem"}).infer(REQUEST, 10)
    assert isinstance(answer, Fault)
    assert answer.kind in {FaultKind.TLS, FaultKind.REFUSED}  # all that gRPC tells is a closed socket


async def test_certificates_are_rotated(secured: Secured, kind: str, url: str, open_at: Open, tmp_path: Path) -> None:
    tls = {name: tmp_path / f"{name}.pem" for name in secured.tls}
    endpoint = open_at(kind, url, tls=tls, headers={key_name(kind): SECRET})
    missing = await endpoint.infer(REQUEST, 10)
    assert isinstance(missing, Fault)
    assert (missing.kind, missing.blame) == (FaultKind.TLS, Blame.CLIENT)
    for name, file in tls.items():
        file.write_bytes(secured.tls[name].read_bytes())
    tls["ca"].write_bytes((secured.folder / "other-ca.pem").read_bytes())
    untrusted = await endpoint.infer(REQUEST, 10)
    assert isinstance(untrusted, Fault)
    assert untrusted.kind is FaultKind.TLS
    tls["ca"].write_bytes(secured.tls["ca"].read_bytes())
    assert isinstance(answer := await endpoint.infer(REQUEST, 10), Reply), answer


async def test_no_certificate_in_the_file(secured: Secured, kind: str, url: str, open_at: Open, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    answer = await open_at(kind, url, tls={"ca": tmp_path / "ca.pem"}).infer(REQUEST, 10)
    assert isinstance(answer, Fault)
    assert answer.kind is FaultKind.TLS


async def test_plain_speech_to_a_tls_port(kind: str, url: str, open_at: Open) -> None:
    answer = await open_at(kind, url).infer(REQUEST, 10)
    assert isinstance(answer, Fault)
    assert answer.kind is FaultKind.REFUSED


async def test_tls_to_a_plain_port(secured: Secured, kind: str, open_at: Open) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with tcp_server(plain) as address:
        answer = await open_at(kind, f"https://{address}").infer(REQUEST, 10)
    assert isinstance(answer, Fault)
    assert answer.kind is FaultKind.TLS


@pytest.mark.parametrize("http_kind", ["triton-http", "oip-http"])
async def test_a_secret_that_the_server_repeats_is_not_shown(http_kind: str, open_at: Open, tmp_path: Path) -> None:
    async def gossip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await read_request(reader)
        assert SECRET in head
        writer.write(response(b'{"error": "not with Bearer %s, please"}' % SECRET.encode(), status="401 No"))
        await writer.drain()

    (tmp_path / "key").write_text(f"Bearer {SECRET}")
    async with tcp_server(gossip) as address:
        endpoint = open_at(http_kind, address, secret_headers={"Authorization": {"file": tmp_path / "key"}})
        answer = await endpoint.infer(REQUEST, 10)
    assert isinstance(answer, Fault)
    assert answer.kind is FaultKind.FORBIDDEN
    assert answer.detail == "HTTP 401: not with ***, please"
