"""Draws the tables of docs/metrics.md from the metrics' own declarations.

python docs/metrics_doc.py
"""

from pathlib import Path

from watchdog.telemetry.declared import DECLARED, Declared, Group

PAGE = Path(__file__).parent / "metrics.md"
BEGIN, END = "<!-- tables: made by docs/metrics_doc.py -->", "<!-- end of tables -->"


def page(text: str) -> str:
    """The page with the tables drawn afresh."""
    head, begins, rest = text.partition(BEGIN)
    _, ends, tail = rest.partition(END)
    if not begins or not ends:
        raise ValueError(f"docs/metrics.md must have {BEGIN} and then {END}")
    tables = "\n\n".join(f"### {group}\n{table([row for row in DECLARED if row.group is group])}" for group in Group)
    return f"{head}{BEGIN}\n{tables}\n{END}{tail}"


def table(rows: list[Declared]) -> str:
    lines = ["| metric | kind | labels | |", "|---|---|---|---|"]
    for row in rows:
        labels = ", ".join(f"`{label}`" for label in row.labels)
        limit = f" Limit: `{row.limit}`." if row.limit else ""
        lines.append(f"| `{row.name}` | {row.kind} | {labels} | {row.help}{limit} |")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
