"""The watchdog's own TLS: what is asked of clients, and certificates that change while it runs."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import trustme
from aiohttp import web
from pydantic import ValidationError

from tests.core.test_api import AUTH, ROLLBACK, FakeService, error_of
from watchdog.api.server import create
from watchdog.server_tls import ServerTls, server_context
from watchdog.transport import serve

HOST = "127.0.0.1"


class House:
    """An authority for servers, one for clients, and a watchdog that has what they issued."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers, self.clients = trustme.CA(), trustme.CA()
        self.complaints: list[str] = []
        self.write_server(self.servers)
        self.clients.cert_pem.write_to_path(folder / "clients.pem")

    @property
    def settings(self) -> ServerTls:
        return ServerTls(cert=self.folder / "cert.pem", key=self.folder / "key.pem")

    @property
    def mutual(self) -> ServerTls:
        return self.settings.model_copy(update={"client_ca": self.folder / "clients.pem"})

    def write_server(self, authority: trustme.CA) -> None:
        """New files beside the old ones, then put in their place."""
        issued = authority.issue_cert(HOST)
        for name, blob in (("key.pem", issued.private_key_pem), ("cert.pem", issued.cert_chain_pems[0])):
            blob.write_to_path(self.folder / f"new-{name}")
            (self.folder / f"new-{name}").replace(self.folder / name)

    def client(self, trusts: trustme.CA | None = None, shows: trustme.CA | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context()
        (trusts or self.servers).configure_trust(context)
        if shows is not None:
            shows.issue_cert("prometheus.example").configure_cert(context)
        return context


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def listen(house: House, settings: ServerTls) -> tuple[web.AppRunner, str]:
    context = server_context(settings, house.complaints.append)
    return await serve(create(FakeService()), f"{HOST}:0", tls=context)


@pytest.fixture
async def url(house: House) -> AsyncIterator[str]:
    runner, url = await listen(house, house.settings)
    yield url
    await runner.cleanup()


@pytest.fixture
async def mutual_url(house: House) -> AsyncIterator[str]:
    runner, url = await listen(house, house.mutual)
    yield url
    await runner.cleanup()


async def status(url: str, path: str, context: ssl.SSLContext, method: str = "GET") -> int:
    """Over a connection of its own."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, force_close=True)) as session,
        session.request(method, url + path, headers=AUTH) as response,
    ):
        if response.status == 403:
            assert (await error_of(response)).startswith("this needs a client certificate")
        return response.status


async def test_all_is_served_over_tls(house: House, url: str) -> None:
    assert url.startswith(f"https://{HOST}:")
    assert await status(url, "/api/v1/status", house.client()) == 200
    assert await status(url, ROLLBACK, house.client(), "POST") == 200
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await status(url, "/-/healthy", house.client(trusts=trustme.CA()))


async def test_plain_speech_is_not_answered(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(url.replace("https", "http"))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_both_versions_that_are_safe_are_spoken(house: House, mutual_url: str, version: ssl.TLSVersion) -> None:
    context = house.client(shows=house.clients)
    context.minimum_version = context.maximum_version = version
    assert await status(mutual_url, "/metrics", context) == 200


def test_older_versions_are_not(house: House) -> None:
    assert server_context(house.settings, house.complaints.append).minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("path", "without"),
    [
        ("/-/healthy", 200),
        ("/-/ready", 200),
        ("/-/ready/nodule", 200),
        ("/-/healthy/x", 403),
        ("/metrics", 403),
        ("/api/v1/status", 403),
        ("/api/v1/openapi.json", 403),
        ("/api/v1/models/nodule/gate", 403),
        ("/api/v1/routes/nodule", 403),
        ("/nothing", 403),
        (ROLLBACK, 403),
    ],
)
async def test_without_a_certificate_there_is_only_health(
    house: House, mutual_url: str, path: str, without: int
) -> None:
    method = "POST" if path == ROLLBACK else "GET"
    assert await status(mutual_url, path, house.client(), method) == without
    shown = await status(mutual_url, path, house.client(shows=house.clients), method)
    assert shown == (404 if path in {"/nothing", "/-/healthy/x"} else 200)


async def test_a_certificate_of_somebody_else_gets_no_connection(house: House, mutual_url: str) -> None:
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await status(mutual_url, "/-/healthy", house.client(shows=trustme.CA()))


@pytest.mark.parametrize("names_a_server", [True, False])
async def test_a_new_certificate_is_shown_to_the_next_client(house: House, names_a_server: bool) -> None:
    runner, url = await listen(house, house.settings)
    if names_a_server:
        url = url.replace(HOST, "localhost")
    try:
        for authority in (house.servers, trustme.CA(), trustme.CA()):
            house.write_server(authority)
            context = house.client(trusts=authority)
            context.check_hostname = not names_a_server  # an address is never sent as a server's name
            assert await status(url, "/-/healthy", context) == 200
    finally:
        await runner.cleanup()
    assert house.complaints == []


async def test_an_authority_that_is_taken_away_is_no_longer_trusted(house: House, mutual_url: str) -> None:
    old, new = house.clients, trustme.CA()
    assert await status(mutual_url, "/metrics", house.client(shows=old)) == 200
    new.cert_pem.write_to_path(house.folder / "clients.pem")
    assert await status(mutual_url, "/metrics", house.client(shows=new)) == 200
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await status(mutual_url, "/metrics", house.client(shows=old))


async def test_a_client_can_not_come_back_on_an_old_session(house: House, mutual_url: str) -> None:
    """What it has shown must be trusted now, and not only when it came first."""
    context = house.client(shows=house.clients)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    port = int(mutual_url.rpartition(":")[2])

    def connect(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool | None]:
        with (
            socket.create_connection((HOST, port)) as raw,
            context.wrap_socket(raw, server_hostname=HOST, session=session) as secured,
        ):
            return secured.session, secured.session_reused

    session, _ = await asyncio.to_thread(connect, None)
    assert (await asyncio.to_thread(connect, session))[1] is False


@pytest.mark.parametrize("name", ["cert.pem", "key.pem", "clients.pem"])
@pytest.mark.parametrize("content", ["nothing", None])
async def test_files_that_can_not_be_used_leave_the_old_ones_in_force_and_are_told_once(
    house: House, mutual_url: str, name: str, content: str | None
) -> None:
    shown = house.client(shows=house.clients)
    assert await status(mutual_url, "/metrics", shown) == 200
    good = (house.folder / name).read_bytes()
    (house.folder / name).unlink()
    if content is not None:
        (house.folder / name).write_text(content)
    for _ in range(3):
        assert await status(mutual_url, "/metrics", shown) == 200
        assert await status(mutual_url, "/metrics", house.client()) == 403
    [complaint] = house.complaints
    assert complaint.startswith("api.tls: ")
    assert str(house.folder / name) in complaint
    assert complaint.endswith("the certificate that was read last goes on")
    (house.folder / name).write_bytes(good)
    assert await status(mutual_url, "/metrics", shown) == 200
    assert len(house.complaints) == 1


async def test_a_key_that_comes_after_its_certificate_is_waited_for(house: House, url: str) -> None:
    other = trustme.CA()
    issued = other.issue_cert(HOST)
    issued.cert_chain_pems[0].write_to_path(house.folder / "cert.pem")
    assert await status(url, "/-/healthy", house.client()) == 200
    issued.private_key_pem.write_to_path(house.folder / "key.pem")
    os.utime(house.folder / "key.pem")
    assert await status(url, "/-/healthy", house.client(trusts=other)) == 200
    assert len(house.complaints) == 1


@pytest.mark.parametrize("name", ["cert.pem", "key.pem", "clients.pem"])
def test_files_that_can_not_be_used_at_the_start_are_named(house: House, name: str) -> None:
    (house.folder / name).unlink()
    with pytest.raises(ValueError, match=name):
        server_context(house.mutual, house.complaints.append)


def test_a_certificate_without_its_key_is_no_setting() -> None:
    with pytest.raises(ValidationError, match="key"):
        ServerTls.model_validate({"cert": "cert.pem"})
