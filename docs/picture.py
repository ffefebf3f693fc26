"""Draws docs/demo.svg, the README's picture, from a real run.

python docs/picture.py
"""

import io
import re
from pathlib import Path

from rich.console import Console

from watchdog.demo import stage

if __name__ == "__main__":
    # Not a terminal, so that no spinner is recorded; in colour all the same.
    console = Console(record=True, width=132, highlight=False, color_system="truecolor", file=io.StringIO())
    outcome = stage.play("nan", console)
    svg = console.export_svg(title="make demo")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # a reader's own fixed-width font will do
    (Path(__file__).parent / "demo.svg").write_text(svg, encoding="utf-8")
    print("right" if outcome.right else outcome.complaints)
