"""Draws docs/demo.svg, the README's picture, from a real run: python docs/picture.py"""

from pathlib import Path

from rich.console import Console

from watchdog.demo import stage

if __name__ == "__main__":
    console = Console(record=True, width=128, highlight=False, force_terminal=True)
    outcome = stage.play("nan", console)
    console.save_svg(str(Path(__file__).parent / "demo.svg"), title="make demo")
    print("right" if outcome.right else outcome.complaints)
