"""The page in a real browser, before a watchdog that says whatever a test wants: text that would be markup, a thousand
entries, a phone, a watchdog that is gone."""

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, BrowserContext, Page, Request, Route, async_playwright, expect

from tests.core.builders import MODEL
from tests.core.story_events import one_of_each
from tests.core.test_api import FakeService
from tests.core.virtual_time import EPOCH
from watchdog.api.server import create
from watchdog.model.journal import Entry, EntryKind
from watchdog.policy.memory import PolicyState
from watchdog.telemetry.board import Board
from watchdog.telemetry.gallery import Drawing, Gallery, Picture
from watchdog.telemetry.history import History
from watchdog.transport import serve

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt install chromium"),
]

EVIL = "<img src=x onerror=document.title='owned'><b>bold</b>"
TOKEN = "s3cret"
NOW = EPOCH + 20
expect.set_options(timeout=15_000)


class Shown(FakeService):
    """Tells of one model all that can be told, by the real observers."""

    def __init__(self, name: str = "lung") -> None:
        super().__init__()
        self.model = name
        self.the_token = TOKEN
        self.entries: list[Entry] = []
        self.alerts: list[dict[str, Any]] = []
        self._board, self._history, self._gallery = Board(EPOCH), History(), Gallery()
        for event in one_of_each(name):
            for observer in (self._board, self._history, self._gallery):
                observer(event)
        self._board.forget(MODEL)  # some events are of it, whatever the name
        self._board.know(name, PolicyState(since=EPOCH))

    def status(self) -> dict[str, Any]:
        return {
            "version": "1",
            **self._board.document(NOW),
            "starting": None,
            "commands": True,
            "journal": {"trouble": None},
            "configuration": {"in_force_since": EPOCH, "last_reload_ok": True},
            "channels": [
                {
                    "channel": "pager",
                    "pending": 2,
                    "oldest_at": EPOCH,
                    "up": False,
                    "delivered_at": None,
                    "detail": EVIL,
                }
            ],
            "alerts": self.alerts,
        }

    def history(self, model: str, since: float) -> dict[str, Any]:
        return self._history.document(model, NOW, since)

    def canaries(self, model: str) -> Sequence[dict[str, Any]]:
        answers = self._gallery.document(model, NOW)
        return [answer | {"pictures": list(Picture), "canary": EVIL} for answer in answers]

    def drawing(self, model: str, number: int, picture: Picture) -> Drawing | None:
        return Drawing(picture=picture, plane=np.zeros((16, 16), dtype=np.uint8))

    async def journal_tail(self, limit: int, model: str | None, after: int) -> Sequence[Entry]:
        return [entry for entry in self.entries if entry.seq > after][-limit:]


def an_alert(**more: Any) -> dict[str, Any]:
    given = {"alert": "WatchdogEngineFault", "severity": "critical", "labels": {}, "summary": "x", "description": "y"}
    return given | more


def entries(count: int) -> list[Entry]:
    kinds: list[tuple[EntryKind, dict[str, Any]]] = [
        (EntryKind.COMMAND, {"command": "hold", "actor": EVIL, "why": EVIL}),
        (EntryKind.NOTICE, {"channel": "pager", "kind": "first", "alert": "A", "summary": EVIL, "delivered": True}),
        (EntryKind.OUTCOME, {"to": "safe", "percent": 100, "applied": True, "proven": True, "detail": EVIL}),
        (EntryKind.DECISION, {"before": "confirming", "after": {"state": "held"}, "detail": EVIL}),
    ]
    return [
        Entry(seq=1 + i, at=EPOCH + i, kind=kinds[i % 4][0], model=EVIL, data=kinds[i % 4][1]) for i in range(count)
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        found = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        await found.close()


@asynccontextmanager
async def opened(browser: Browser, url: str, **context: Any) -> AsyncIterator[Page]:
    """The page, none of whose errors is left unsaid, and which may ask nobody but its watchdog."""
    complaints, asked = list[str](), set[str]()
    its: BrowserContext = await browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | context))
    page = await its.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None)
    page.on("request", lambda request: asked.add(request.url.split("/")[2]))
    await page.goto(url)
    yield page
    await its.close()
    assert asked == {url.removeprefix("http://")}
    assert [each for each in complaints if "ERR_" not in each] == []


@asynccontextmanager
async def served(service: FakeService, listen: str = "127.0.0.1:0") -> AsyncIterator[tuple[web.AppRunner, str]]:
    runner, url = await serve(create(service), listen)
    try:
        yield runner, url
    finally:
        await runner.cleanup()


async def test_whatever_comes_from_outside_is_text_and_never_markup(browser: Browser) -> None:
    service = Shown(name=EVIL)
    service.entries = entries(8)
    service.alerts = [an_alert(summary=EVIL, description=EVIL, alert=EVIL)]
    async with served(service) as (_, url), opened(browser, url) as page:
        await expect(page.get_by_role("heading", name=EVIL)).to_be_visible()
        await expect(page.locator("#journal li")).to_have_count(8)
        await expect(page.locator(".canary").first).to_contain_text(EVIL)
        await expect(page.get_by_role("list", name="Alerts that hold")).to_contain_text(EVIL)
        await page.get_by_role("button", name="Look now").click()
        await expect(page.get_by_role("dialog")).to_contain_text(EVIL)
        assert await page.locator("img[src=x], b >> text=/^bold$/").count() == 0
        assert await page.title() != "owned"


async def test_a_thousand_entries_can_be_read_and_sifted(browser: Browser) -> None:
    service = Shown()
    service.entries = entries(1000)
    async with served(service) as (_, url), opened(browser, url) as page:
        lines = page.locator("#journal li")
        await expect(lines).to_have_count(200)
        await page.get_by_role("button", name="Show up to 1,000 entries").click()
        await expect(lines).to_have_count(1000)
        await expect(lines.first.locator("time")).to_have_attribute("title", "2023-11-14 22:29:59 UTC")
        await page.get_by_label("Show").select_option("Switches")
        await expect(page.locator("#journal li:visible")).to_have_count(250)
        await expect(page.locator("#journal li:visible").first).to_contain_text(
            "The safe engine has all traffic, proven."
        )
        service.entries += [Entry(seq=1001, at=EPOCH + 1001, kind=EntryKind.STARTED, model="", data={"version": "2"})]
        await expect(lines.first).to_contain_text("The watchdog 2 started.")
        await expect(lines).to_have_count(1000)  # the oldest one goes
        await expect(page.locator("#journal li:visible")).to_have_count(250)


async def test_it_fits_a_phone(browser: Browser) -> None:
    service = Shown()
    service.entries = entries(4)
    service.alerts = [an_alert(summary="long " * 40)]
    async with (
        served(service) as (_, url),
        opened(browser, url, viewport={"width": 320, "height": 640}, has_touch=True) as page,
    ):
        await expect(page.locator(".canary").first).to_be_visible()
        await expect(page.locator("#journal li")).to_have_count(4)
        too_wide = await page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
        assert too_wide <= 0, "something is to be scrolled sideways"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_can_be_read(browser: Browser, scheme: str) -> None:
    """A contrast of at least 4.5 to 1 (WCAG 2.2, 1.4.3), of every text that is shown."""
    service = Shown()
    service.entries = entries(4)
    service.alerts = [an_alert(), an_alert(severity="warning")]
    async with served(service) as (_, url), opened(browser, url, color_scheme=scheme) as page:
        await expect(page.locator(".canary").first).to_be_visible()
        await expect(page.locator("#journal li")).to_have_count(4)
        for tone in ("good", "busy", "warn", "bad", "unknown"):
            await page.locator("article").evaluate("(e, tone) => e.setAttribute('data-tone', tone)", tone)
            found = await page.evaluate(_TOO_FAINT)
            assert found["looked_at"] > 60
            assert found["too_faint"] == [], tone


_TOO_FAINT = """() => {
  const paint = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (colour) => {
    paint.clearRect(0, 0, 1, 1); paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = rgba(getComputedStyle(each).backgroundColor);
      if (colour[3] > 250) return colour;
    }
    return [255, 255, 255];
  };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const seen = [], faint = [];
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement, text = walk.currentNode.textContent.trim();
    const hidden = !element.checkVisibility({ visibilityProperty: true });
    if (!text || hidden || element.closest('.unseen, option, title, noscript')) continue;
    const style = getComputedStyle(element), colour = rgba(element.closest('svg') ? style.fill : style.color);
    const [a, b] = [luminance(colour), luminance(ground(element))].sort((x, y) => y - x);
    seen.push(text);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) faint.push([text.slice(0, 40), ratio]);
  }
  return { looked_at: seen.length, too_faint: faint };
}"""


async def test_a_page_without_an_answer_looks_old_until_there_is_one(browser: Browser) -> None:
    service = Shown()
    async with served(service) as (runner, url), opened(browser, url) as page:
        await expect(page.locator("#connection")).to_contain_text("live")
        await expect(page.get_by_role("button", name="Roll back")).to_be_visible()
        await runner.cleanup()
        banner = page.get_by_role("alert")
        await expect(banner).to_contain_text("The watchdog does not answer")
        await expect(banner).to_contain_text("was true at")
        await expect(page).to_have_title("No answer · Inference watchdog")
        await expect(page.get_by_role("button", name="Roll back")).to_be_hidden()
        assert await page.evaluate("() => getComputedStyle(document.querySelector('main')).filter") == "grayscale(1)"
        async with served(service, url.removeprefix("http://")):
            await expect(banner).to_be_hidden()
            await expect(page.locator("#connection")).to_contain_text("live")


async def test_who_does_not_look_costs_nothing_and_who_comes_back_sees_news(browser: Browser) -> None:
    service = Shown()
    async with served(service) as (_, url), opened(browser, url) as page:
        await expect(page.get_by_role("article")).to_be_visible()
        await page.clock.install()
        await _hide(page, hidden=True)
        await page.wait_for_load_state("networkidle")
        asked: list[Request] = []
        page.on("request", lambda request: asked.append(request))  # noqa: PLW0108 - it marks functions, not methods
        await page.clock.run_for(120_000)
        assert asked == []
        service.alerts = [an_alert(summary="meanwhile")]
        await _hide(page, hidden=False)
        await expect(page.get_by_role("list", name="Alerts that hold")).to_contain_text("meanwhile")


async def _hide(page: Page, *, hidden: bool) -> None:
    await page.evaluate(
        """hidden => {
          Object.defineProperty(document, 'hidden', { get: () => hidden, configurable: true });
          document.dispatchEvent(new Event('visibilitychange'));
        }""",
        hidden,
    )


async def test_changes_are_told_to_those_who_listen(browser: Browser) -> None:
    service = Shown()
    async with served(service) as (_, url), opened(browser, url) as page:
        news = page.locator("[aria-live=polite]")
        await expect(news).to_contain_text("lung: The fast engine serves; its newest answer is wrong. No alert.")
        service.alerts = [an_alert(summary="lung is wrong")]
        await expect(news).to_contain_text("1 alert: lung is wrong.")


async def test_a_command_whose_answer_was_lost_is_sent_again_as_the_same_one(browser: Browser) -> None:
    service, keys = Shown(), list[str]()

    async def lose_the_first(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) == 1:
            await route.abort()
        else:
            await route.continue_()

    async with served(service) as (_, url), opened(browser, url) as page:
        await page.route("**/hold", lose_the_first)
        await page.get_by_role("button", name="Hold").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Reason").fill("maintenance")
        await dialog.get_by_label("Token").fill(TOKEN)
        await page.keyboard.press("Enter")
        await expect(dialog.get_by_role("status")).to_contain_text("Whether it was done is not known.")
        await dialog.get_by_role("button", name="Yes, hold").click()
        await expect(dialog.get_by_role("status")).to_contain_text("Not done.")
        await dialog.get_by_role("button", name="Close").click()
        assert len(keys) == 2
        assert keys[0] == keys[1]
        assert [(command[1], command[3]) for command in service.commands] == [("hold", "maintenance")]

        await page.get_by_role("button", name="Look now").click()
        await expect(dialog.get_by_label("Token")).to_be_hidden()  # it is remembered while the page is open
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name="Look now")).to_be_focused()
        stored = await page.evaluate("() => JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
        assert stored == '[{},{},""]'


async def test_a_reason_is_needed(browser: Browser) -> None:
    service = Shown()
    async with served(service) as (_, url), opened(browser, url) as page:
        await page.get_by_role("button", name="Hold").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Reason").fill("   ")
        await dialog.get_by_label("Token").fill(TOKEN)
        await page.keyboard.press("Enter")
        await expect(dialog.get_by_role("status")).to_contain_text("Write a reason")
        assert service.commands == []
