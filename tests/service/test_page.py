"""The watchdog's own page in a real browser, by what it shows of a real watchdog beside a real Triton."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.service.conftest import MODEL, TOKEN, Run, Site
from tests.triton_fixture import Mood

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.triton,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt install chromium"),
]
PATIENCE_MS = 20_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of its own, whose errors are the test's."""
    expect.set_options(timeout=PATIENCE_MS)
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error" and "Failed to load" not in message.text:  # a refused token is one
            complaints.append(message.text)

    page.on("console", on_console)
    yield page
    context.close()
    assert complaints == []


def the_model(page: Page) -> Page:
    article = page.get_by_role("article", name=MODEL)
    expect(article).to_be_visible()
    return page


def headline(page: Page, text: str) -> None:
    expect(the_model(page).locator(".headline")).to_have_text(text)


def test_a_healthy_model_is_shown_with_its_canaries_and_asks_nobody_else(
    site: Site, run: Callable[[Path], Run], page: Page, tmp_path: Path
) -> None:
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request))  # noqa: PLW0108 - it marks functions, not methods
    service = run(site.configure(tmp_path))
    service.await_healthy()
    answer = page.goto(service.url)
    assert answer is not None
    assert "default-src 'none'" in answer.headers["content-security-policy"]

    headline(page, "The fast engine serves")
    article = page.get_by_role("article", name=MODEL)
    expect(article).to_contain_text("fast engine, 100 %")
    for picture in ("input", "golden", "current", "difference"):
        image = article.locator(f'img[src*="/{picture}.png"]').first
        expect(image).to_be_visible()
        expect(image).to_have_attribute("alt", re.compile(r"\w"))
        image.scroll_into_view_if_needed()
        page.wait_for_function("i => i.complete && i.naturalWidth > 0", arg=image.element_handle())
    expect(page.get_by_role("heading", name="Journal")).to_be_visible()
    expect(page.get_by_role("list", name="Alerts that hold")).not_to_contain_text("Watchdog")
    assert {request.url.split("/")[2] for request in asked} == {service.url.removeprefix("http://")}
    _has_a_name_for_everything(page)


def _has_a_name_for_everything(page: Page) -> None:
    """Each picture an `alt`, each control a name, one first heading, and a language."""
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('img:not([alt]), button, select, input, [role=img], [role=region]')]
             .filter(e => e.matches('img') || !(e.ariaLabel || e.getAttribute('aria-labelledby') || e.textContent.trim()
                          || (e.labels && e.labels.length)))
             .map(e => e.outerHTML)"""
    )
    assert nameless == []
    assert page.locator("h1").count() == 1
    assert page.locator("html").get_attribute("lang") == "en"


def test_wrong_answers_that_may_only_be_told_are_shown_as_wrong(
    site: Site, run: Callable[[Path], Run], page: Page, tmp_path: Path
) -> None:
    config = site.configure(tmp_path, models=[site.model(policy={"action": "alert"})])
    service = run(config)
    service.await_healthy()
    page.goto(service.url)
    headline(page, "The fast engine serves")
    site.feel(2, Mood.ZEROS)

    headline(page, "Wrong or slow, and not moved")
    expect(page.get_by_role("list", name="Alerts that hold")).to_contain_text("WatchdogEngineFault")
    article = page.get_by_role("article", name=MODEL)
    expect(article).to_contain_text("elements of probability are 0")
    expect(article).to_have_attribute("data-tone", "bad")


def test_a_switch_is_told_and_a_person_promotes_with_keyboard_and_token(
    site: Site, run: Callable[[Path], Run], page: Page, tmp_path: Path
) -> None:
    service = run(site.configure(tmp_path))
    service.await_healthy()
    page.goto(service.url)
    headline(page, "The fast engine serves")
    site.feel(2, Mood.NAN)
    headline(page, "The safe engine serves")
    expect(page.get_by_role("list", name="Alerts that hold")).to_contain_text("WatchdogEngineRolledBack")
    expect(page.locator("#journal")).to_contain_text(re.compile("switch|safe", re.IGNORECASE))
    site.feel(2, Mood.RIGHT)

    page.get_by_role("button", name="Promote").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    page.keyboard.type("the engine was repaired")  # the reason has the focus
    dialog.get_by_label("Token").fill("not the token")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("status")).to_contain_text("token")
    dialog.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("status")).to_contain_text("Done.")
    page.keyboard.press("Escape")
    headline(page, "The fast engine serves")
    assert "the engine was repaired" in service.ask("/api/v1/journal")[1]


def test_a_server_that_is_down_is_blind_and_a_watchdog_that_is_gone_is_stale(
    site: Site, run: Callable[[Path], Run], page: Page, tmp_path: Path
) -> None:
    service = run(site.configure(tmp_path))
    service.await_healthy()
    page.goto(service.url)
    headline(page, "The fast engine serves")
    site.triton.kill()
    headline(page, "Blind: nothing could be measured")
    expect(page.get_by_role("list", name="Alerts that hold")).to_contain_text("WatchdogServerDown")

    service.process.kill()
    expect(page.locator("#stale")).to_be_visible()


def test_without_a_token_there_are_no_commands(
    site: Site, run: Callable[[Path], Run], page: Page, tmp_path: Path
) -> None:
    service = run(site.configure(tmp_path, api={"listen": "127.0.0.1:0"}))
    service.await_healthy()
    page.goto(service.url)
    headline(page, "The fast engine serves")
    expect(page.get_by_role("article", name=MODEL)).to_contain_text("Commands are off")
    assert page.get_by_role("button", name="Roll back").count() == 0
