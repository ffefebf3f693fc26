"""Takes docs/screenshots/*.png of the watchdog's own page, from a real run of the demonstration's parts.

python docs/screenshots.py [FOLDER]
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from playwright.sync_api import Browser, Page, sync_playwright
from tritonclient.utils import InferenceServerException

from watchdog.canaries.phantom import default_set, write_series
from watchdog.demo.faults import FAULTS
from watchdog.demo.repository import FAST, MODEL, SAFE, write_repository
from watchdog.demo.service import Record, Service
from watchdog.demo.stage import OUTPUTS, RECIPE, SEED
from watchdog.demo.traffic import Traffic
from watchdog.demo.training import SIZE, slices_of
from watchdog.demo.triton import TritonServer

SIZES = {"width": 1280, "height": 1080}
_LEARN_S = 25.0
"""How long all is well before the first picture, so that there is something to see."""
_SETTLE_S = 6.0
_PATIENCE_S = 60.0


def configure(folder: Path, server: TritonServer, action: str) -> Path:
    (folder / "token").write_text("a-token-for-pictures\n", encoding="utf-8")
    config = {
        "state": f"state-{action}",
        "api": {"listen": "127.0.0.1:0", "token": {"file": "token"}},
        "endpoints": [{"name": "triton", "kind": "triton-grpc", "url": server.grpc_url}],
        "models": [
            {
                "name": MODEL,
                "endpoint": "triton",
                "engines": {"fast": {"version": FAST}, "safe": {"version": SAFE}},
                "canaries": {"path": "canaries", "recipe": "recipe.yaml"},
                "baseline": "baseline",
                "outputs": OUTPUTS,
                "latency": {"fast": "150ms", "safe": "150ms"},  # pictures are taken by a busy machine
                "probe": {"every": "500ms", "deadline": "1s"},
                "policy": {"action": action},
                "router": {"kind": "triton", "url": server.http_url},
            }
        ],
        "channels": [
            {"name": "on-call", "kind": "webhook", "url": "http://127.0.0.1:9/alerts", "signing_key": {"file": "token"}}
        ],
    }
    path = folder / f"watchdog-{action}.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


@contextmanager
def triton(folder: Path) -> Iterator[TritonServer]:
    """The trained detector on a real Triton, asked by ordinary traffic."""
    write_repository(folder / "models")
    write_series(folder / "canaries", default_set(SEED, SIZE), SEED)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE, sort_keys=False), encoding="utf-8")
    server = TritonServer(folder / "models", folder / "triton", models=[MODEL])
    server.start()
    rng = np.random.default_rng(SEED + 1)
    traffic = Traffic(
        server.grpc_url, MODEL, [hu[None, None] for _, hu in slices_of(8, rng)], pause_s=0.2, noise_hu=0.0
    )
    traffic.start(str(SAFE))
    try:
        yield server
    finally:
        traffic.stop()
        server.kill()


class Photographer:
    """Shows one running watchdog's page, in light or dark."""

    def __init__(self, browser: Browser, service: Service, output: Path) -> None:
        self._browser = browser
        self._service = service
        self._output = output
        self._pages: dict[str, Page] = {}

    def open(self, scheme: str) -> None:
        listening = self._await(lambda r: r["event"] == "listening")
        context = self._browser.new_context(color_scheme=scheme, viewport=SIZES)  # type: ignore[arg-type]
        self._pages[scheme] = context.new_page()
        self._pages[scheme].goto(listening["url"])

    def shows(self, text: str) -> None:
        for page in self._pages.values():
            page.locator(".headline", has_text=text).wait_for(timeout=_PATIENCE_S * 1000)

    def shoot(self, name: str, scheme: str = "light") -> None:
        path = self._output / f"{name}.png"
        self._pages[scheme].screenshot(path=path)
        _reduce(path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")

    def _await(self, wanted: Any) -> Record:
        found = self._service.wait_for(wanted, _PATIENCE_S)
        if found is None:
            raise SystemExit("\n".join(map(json.dumps, self._service.records()[-5:])))
        return found


def _reduce(path: Path) -> None:
    """A picture of 256 colours is a third as large, and looks the same."""
    from PIL import Image  # noqa: PLC0415

    with Image.open(path) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def take_all(folder: Path, output: Path) -> None:
    executable = shutil.which("chromium")
    if executable is None:
        raise SystemExit("chromium is not installed: apt-get install chromium")
    faults = {name: FAULTS[name] for name in ("collapse", "server-down")}
    for fault in faults.values():
        fault.prepare()
    with triton(folder) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        watchful, acting = (configure(folder, server, action) for action in ("alert", "rollback"))
        subprocess.run([sys.executable, "-m", "watchdog", "baseline", str(watchful)], check=True)  # noqa: S603
        with Service(watchful, lambda _: None) as service:
            photographer = Photographer(browser, service, output)
            photographer.open("light")
            photographer.shows("The fast engine serves")
            time.sleep(_LEARN_S)
            photographer.shoot("healthy")
            faults["collapse"].inject(server, folder / "models")
            photographer.shows("Wrong or slow")
            time.sleep(_SETTLE_S)
            photographer.shoot("collapse")
        faults["collapse"].heal(server, folder / "models")
        with Service(acting, lambda _: None) as service:
            photographer = Photographer(browser, service, output)
            photographer.open("light")
            photographer.open("dark")
            photographer.shows("The fast engine serves")
            time.sleep(_LEARN_S)
            with suppress(InferenceServerException):  # the watchdog may leave the engine before it is made sure of
                faults["collapse"].inject(server, folder / "models")
            photographer.shows("The safe engine serves")
            time.sleep(_SETTLE_S)
            photographer.shoot("switched")
            photographer.shoot("switched-dark", "dark")
            faults["server-down"].inject(server, folder / "models")
            photographer.shows("Blind")
            time.sleep(_SETTLE_S)
            photographer.shoot("blind")
        browser.close()


if __name__ == "__main__":
    pictures = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "screenshots"
    pictures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="watchdog-pictures-") as place:
        take_all(Path(place), pictures)
