"""Writes the dashboards that Grafana imports, a file each.

    python -m dashboards.build

Each is plain JSON with a stable uid. `watchdog grafana apply` puts them into a Grafana; docs/grafana.md has other ways.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from dashboards import fleet, gpu, model, switch

HERE = Path(__file__).parent
PAGES = (fleet.PAGE, model.PAGE, switch.PAGE, gpu.PAGE)


def files() -> Iterator[tuple[Path, str]]:
    """What is checked in, and what it should hold."""
    known = [(page.name, page.title) for page in PAGES]
    for page in PAGES:
        yield HERE / f"{page.name}.json", f"{json.dumps(page.json(known), indent=2, ensure_ascii=False)}\n"


def main() -> None:
    for path, content in files():
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
