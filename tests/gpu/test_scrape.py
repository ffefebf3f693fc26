"""Prometheus pages from real servers, sound and hostile ones."""

import asyncio
from pathlib import Path

import aiohttp
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from tests.endpoints.hostile import (
    Talk,
    close_at_once,
    drip,
    flood,
    garbage,
    hang,
    read_request,
    response,
    says,
    tcp_server,
)
from watchdog.scrape import Page, Unreadable, _parsed, scrape, scrape_server
from watchdog.transport import Server

ENOUGH = 60.0
FAILURES = "nv_inference_request_failure"
PAGE = b"""# HELP nv_inference_request_failure Number of failed inference requests, all batch sizes
# TYPE nv_inference_request_failure counter
nv_inference_request_failure{model="lung",version="2",reason="REJECTED"} 3
nv_inference_request_failure{model="lung",version="2",reason="BACKEND"} 0
nv_inference_request_failure{model="a \\"b\\" {c}, d\\\\",version="1",reason="OTHER"} 1.5e3
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{gpu_uuid="GPU-a"} 0.25
nv_inference_request_failure_total 99
this is { no Prometheus
"""


async def page_at(address: str, *names: str, timeout_s: float = ENOUGH) -> Page | Unreadable:
    return await scrape_server(Server(url=address), names=names, timeout_s=timeout_s)


async def test_samples_of_the_names_that_were_asked_for() -> None:
    async with tcp_server(says(response(PAGE))) as address:
        page = await page_at(address, FAILURES, "nv_none")
    assert isinstance(page, Page)
    assert page.samples(FAILURES) == [
        ({"model": "lung", "version": "2", "reason": "REJECTED"}, 3.0),
        ({"model": "lung", "version": "2", "reason": "BACKEND"}, 0.0),
        ({"model": 'a "b" {c}, d\\', "version": "1", "reason": "OTHER"}, 1500.0),
    ]
    assert page.samples("nv_none") == ()
    assert page.samples("nv_gpu_utilization") == ()


LABELS = st.text(max_size=20)
VALUES = st.floats(allow_nan=False)


@given(st.dictionaries(LABELS, VALUES, max_size=5))
def test_every_value_and_label_comes_back(values: dict[str, float]) -> None:
    registry = CollectorRegistry()
    gauge = Gauge("asked", "for", ["label"], registry=registry)
    other = Counter("not_asked", "for", ["label"], registry=registry)
    for label, value in values.items():
        gauge.labels(label).set(value)
        other.labels(label).inc()
    samples = _parsed(generate_latest(registry).decode(), {"asked"}).samples("asked")
    assert {labels["label"]: value for labels, value in samples} == values


@given(st.text(alphabet='asked{}="\\,#0.1eN \t', max_size=40))
def test_a_damaged_line_is_a_value_error_at_worst(tail: str) -> None:
    try:
        page = _parsed(f"asked{tail}\n", {"asked"})
    except ValueError:
        return
    assert set(page.by_name) <= {"asked"}


@pytest.mark.parametrize(
    ("talk", "said"),
    [
        (close_at_once, "the connection broke"),
        (garbage, "no usable answer in HTTP"),
        (flood, "longer than 16 MiB"),
        (says(response(b"", status="404 Not Found")), "HTTP 404"),
        (says(response(b"", status="503 Service Unavailable")), "HTTP 503"),
        (says(response(b"", status="401 Unauthorized")), "`secret_headers`"),
        (says(response(b"", "Location: http://elsewhere.example/", status="302 Found")), "a redirect"),
        (says(response(b"asked 1\n", length=99)), "no usable answer in HTTP"),
        (says(response(b"asked\xff 1\n")), "not with Prometheus text"),
        (says(response(b'asked{label="never closed} 1\n')), "not with Prometheus text"),
        (says(response(b"asked one\n")), "not with Prometheus text"),
    ],
)
async def test_what_a_server_does_wrong_is_said(talk: Talk, said: str) -> None:
    async with tcp_server(talk) as address:
        page = await page_at(address, "asked")
        assert isinstance(page, Unreadable)
        assert page.detail.startswith(f"http://{address}: ")
        assert said in page.detail


@pytest.mark.parametrize("talk", [hang, drip])
async def test_a_slow_server_is_not_waited_for(talk: Talk) -> None:
    async with tcp_server(talk) as address:
        page = await page_at(address, "asked", timeout_s=0.2)
    assert page == Unreadable(f"http://{address}: no answer within 0.2 s")


async def test_nobody_there(unused_tcp_port: int) -> None:
    page = await page_at(f"127.0.0.1:{unused_tcp_port}", "asked")
    assert isinstance(page, Unreadable)
    assert "can't connect" in page.detail


@pytest.mark.parametrize(("prefix", "path"), [("", "/metrics"), ("/", "/metrics"), ("/triton/stats", "/triton/stats")])
async def test_the_path_is_the_usual_one_unless_the_url_has_its_own(prefix: str, path: str) -> None:
    heads: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await read_request(reader))[0])
        writer.write(response(b"asked 1\n"))

    async with tcp_server(talk) as address:
        assert isinstance(await page_at(f"http://{address}{prefix}", "asked"), Page)
    assert heads[0].startswith(f"GET {path} HTTP/1.1\r\n")


async def test_headers_and_secrets_are_sent_and_never_told(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("Bearer s3cret\n")
    heads: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await read_request(reader))[0]
        heads.append(head)
        writer.write(response(b"asked " + head.encode(), status="403 Forbidden"))

    async with tcp_server(talk) as address:
        settings = {"url": address, "headers": {"X-Site": "a"}, "secret_headers": {"Authorization": {"file": secret}}}
        page = await scrape_server(Server.model_validate(settings), names=["asked"], timeout_s=ENOUGH)
        secret.unlink()
        without = await scrape_server(Server.model_validate(settings), names=["asked"], timeout_s=ENOUGH)
    assert "X-Site: a\r\n" in heads[0]
    assert "Authorization: Bearer s3cret\r\n" in heads[0]
    assert isinstance(page, Unreadable)
    assert "s3cret" not in page.detail
    assert isinstance(without, Unreadable)
    assert "secret_headers.Authorization" in without.detail
    assert len(heads) == 1


async def test_tls_is_checked_against_the_settings(tmp_path: Path) -> None:
    from ssl import PROTOCOL_TLS_SERVER, SSLContext  # noqa: PLC0415

    authority = trustme.CA()
    context = SSLContext(PROTOCOL_TLS_SERVER)
    authority.issue_cert("triton.example").configure_cert(context)
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))

    async with tcp_server(says(response(b"asked 1\n")), tls=context) as address:

        async def read(**tls: str) -> Page | Unreadable:
            server = Server.model_validate({"url": f"https://{address}", "tls": tls})
            return await scrape_server(server, names=["asked"], timeout_s=ENOUGH)

        assert isinstance(await read(ca=str(ca), server_name="triton.example"), Page)
        distrusted = await read(server_name="triton.example")
        assert isinstance(distrusted, Unreadable)
        assert "set `tls.ca`" in distrusted.detail
        missing = await read(ca=str(tmp_path / "none.pem"))
        assert isinstance(missing, Unreadable)
        assert "`tls`" in missing.detail


async def test_a_session_of_the_callers_own_is_used_and_left_open() -> None:
    async with tcp_server(says(response(PAGE))) as address, aiohttp.ClientSession() as session:
        url = f"http://{address}/metrics?token=s3cret"
        page = await scrape(session, url, names=["nv_gpu_utilization"], timeout_s=ENOUGH)
        assert page == Page({"nv_gpu_utilization": [({"gpu_uuid": "GPU-a"}, 0.25)]})
        assert not session.closed
    async with aiohttp.ClientSession() as session:
        page = await scrape(session, url, names=["nv_gpu_utilization"], timeout_s=ENOUGH)
    assert isinstance(page, Unreadable)
    assert "s3cret" not in page.detail
