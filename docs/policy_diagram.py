"""Draws the diagram and the table of docs/policy.md from the policy's own table.

python docs/policy_diagram.py
"""

from collections.abc import Iterable
from pathlib import Path

from watchdog.policy.states import HOME, TABLE, Action, State, Trigger

PAGE = Path(__file__).parent / "policy.md"
SERVING = (State.SERVING_FAST, State.SERVING_SAFE, State.RECOVERING, State.RETURNING, State.PROBATION)
"""Drawn in one box; what they have in common is drawn once."""
BOX = "serving"

Edge = tuple[str, str]


def page(text: str) -> str:
    """The page with what is between its marks drawn afresh."""
    for name, drawn in (("diagram", diagram()), ("table", table())):
        begin, end = f"<!-- {name}: made by docs/policy_diagram.py -->", f"<!-- end of {name} -->"
        head, begins, rest = text.partition(begin)
        _, ends, tail = rest.partition(end)
        if not begins or not ends:
            raise ValueError(f"docs/policy.md must have {begin} and then {end}")
        text = f"{head}{begin}\n{drawn}\n{end}{tail}"
    return text


def diagram() -> str:
    """A Mermaid state diagram: an arrow from or to the box is one of every state in it, or to where the memory says."""
    shared = {
        trigger: row for trigger, row in TABLE[SERVING[0]].items() if all(TABLE[s].get(trigger) == row for s in SERVING)
    }
    labels: dict[Edge, list[Trigger]] = {}
    for trigger, (following, _) in shared.items():
        labels.setdefault((BOX, _id(following)), []).append(trigger)
    for state, rows in TABLE.items():
        for trigger, (following, _) in rows.items():
            if state not in SERVING or trigger not in shared:
                labels.setdefault((_id(state), _id(following)), []).append(trigger)
    inside = {_id(state) for state in SERVING}
    within = [edge for edge in labels if inside.issuperset(edge)]
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {_id(State.SERVING_FAST)}", f"    state {BOX} {{"]
    lines += [f"    {line}" for line in (*_named(SERVING), *_arrows(labels, within))]
    lines += ["    }", *_named(s for s in State if s not in SERVING)]
    lines += _arrows(labels, (edge for edge in labels if edge not in within))
    return "\n".join([*lines, "```"])


def _named(states: Iterable[State]) -> list[str]:
    return [f'    state "{state}" as {_id(state)}' for state in states]


def _arrows(labels: dict[Edge, list[Trigger]], edges: Iterable[Edge]) -> list[str]:
    return [f"    {begin} --> {end} : {', '.join(labels[begin, end])}" for begin, end in edges]


def _id(state: State | None) -> str:
    return BOX if state is HOME else state.replace("-", "_")


def table() -> str:
    """The same with the actions, a row for what leads from one state to the same end."""
    lines = ["| in | on | to | and does |", "|---|---|---|---|"]
    for state, rows in TABLE.items():
        grouped: dict[tuple[State | None, Action], list[Trigger]] = {}
        for trigger, row in rows.items():
            grouped.setdefault(row, []).append(trigger)
        for (following, action), triggers in grouped.items():
            on = ", ".join(f"`{trigger}`" for trigger in triggers)
            to = BOX if following is HOME else f"`{following}`"
            does = "" if action is Action.NONE else f"`{action}`"
            lines.append(f"| `{state}` | {on} | {to} | {does} |")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
