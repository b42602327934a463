"""Draws the rooms of the house and the imports between them, from the code, as docs/rooms.svg.

Floors come from tests/test_layout.py, what a room is for from CONTRIBUTING.md: python docs/draw_rooms.py
"""

from __future__ import annotations

import ast
from collections import Counter
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WIDTH, ROW, BOX_HEIGHT, MARGIN = 1180, 92, 52, 24
STYLE = """
  svg { background: #fff; font-family: ui-sans-serif, system-ui, sans-serif; }
  rect { fill: #f4f6fa; stroke: #52607a; rx: 7px; }
  .name { font-weight: 600; font-size: 14px; fill: #1b2538; }
  .purpose { font-size: 10.5px; fill: #52607a; }
  path { fill: none; }
  .next { stroke: #33507f; opacity: 0.75; }
  .past { stroke: #9aa7bd; opacity: 0.3; }
"""


def read_floors() -> list[tuple[str, ...]]:
    """The rooms of each floor, from the ground up, as the layout test has them."""
    tree = ast.parse((ROOT / "tests" / "test_layout.py").read_text(encoding="utf-8"))
    (value,) = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FLOORS"
    ]
    floors: list[tuple[str, ...]] = list(ast.literal_eval(value))
    return floors


def read_purposes() -> dict[str, str]:
    """What each room is for, from the indented list in CONTRIBUTING.md."""
    lines = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()
    rooms = (line for line in lines if line.startswith("    ") and "  " in line.strip())
    return {line.split()[0]: line.split(None, 1)[1] for line in rooms}


def room_of(path: Path, rooms: list[str]) -> str:
    """The room of a file: the longest name that fits."""
    return max((room for room in rooms if str(path) == room or str(path).startswith(f"{room}/")), key=len)


def count_imports(rooms: list[str]) -> Counter[tuple[str, str]]:
    """Number of imports from one room into another."""
    counts: Counter[tuple[str, str]] = Counter()
    for folder in ("ops", "model", "platform", "api"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            here = room_of(path.relative_to(ROOT), rooms)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.ImportFrom) or not str(node.module).startswith("maskray."):
                    continue
                for name in (str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)):
                    other = Path(*name.split(".")[1:]).with_suffix(".py")
                    if (ROOT / other).is_file() and room_of(other, rooms) != here:
                        counts[here, room_of(other, rooms)] += 1
    return counts


def reaches_past(edge: tuple[str, str], edges: set[tuple[str, str]]) -> bool:
    """Whether a room is also reached through others."""
    start, end = edge
    seen, left = set(), [b for a, b in edges if a == start and b != end]
    while left:
        room = left.pop()
        if room == end:
            return True
        if room not in seen:
            seen.add(room)
            left += [b for a, b in edges if a == room]
    return False


def place_rooms(floors: list[tuple[str, ...]]) -> dict[str, tuple[float, float, float]]:
    """Left edge, top and width of the box of each room."""
    places = {}
    for number, rooms in enumerate(reversed(floors)):
        width = min(330.0, (WIDTH - 2 * MARGIN) / len(rooms) - 20)
        # Floors of one room step to the side by turns, so that arrows past them can be seen.
        shift = 0 if len(rooms) > 1 else (-1, 1)[number % 2] * 150
        left = WIDTH / 2 - len(rooms) * (width + 20) / 2 + 10 + shift
        for index, room in enumerate(rooms):
            places[room] = (left + index * (width + 20), MARGIN + number * ROW, width)
    return places


def draw() -> str:
    """The picture as SVG text."""
    floors, purposes = read_floors(), read_purposes()
    rooms = [room for floor in floors for room in floor]
    counts, places = count_imports(rooms), place_rooms(floors)
    edges = set(counts)
    height = 2 * MARGIN + (len(floors) - 1) * ROW + BOX_HEIGHT
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"><style>{STYLE}</style>']
    parts.append("<title>Rooms of maskray and the imports between them; all point down</title>")
    lines = []
    for (start, end), count in sorted(counts.items()):
        kind = "past" if reaches_past((start, end), edges) else "next"
        x0, y0 = places[start][0] + places[start][2] / 2, places[start][1] + BOX_HEIGHT
        x1, y1 = places[end][0] + places[end][2] / 2, places[end][1]
        bend = (y1 - y0) / 2
        curve = f"M{x0:.0f} {y0:.0f}C{x0:.0f} {y0 + bend:.0f} {x1:.0f} {y1 - bend:.0f} {x1:.0f} {y1:.0f}"
        width = 1 + min(count, 12) / 4
        lines.append(
            (kind == "next", f'<path class="{kind}" stroke-width="{width:.2f}" d="{curve}">'
             f"<title>{escape(start)} imports {escape(end)}: {count}</title></path>")
        )  # fmt: skip
    parts += [line for _, line in sorted(lines)]
    for room, (left, top, width) in places.items():
        middle = left + width / 2
        parts.append(f'<rect x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{BOX_HEIGHT}"/>')
        parts.append(f'<text class="name" x="{middle:.0f}" y="{top + 21:.0f}" text-anchor="middle">{room}</text>')
        purpose = escape(purposes[room])
        parts.append(f'<text class="purpose" x="{middle:.0f}" y="{top + 39:.0f}" text-anchor="middle">{purpose}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "rooms.svg").write_text(draw(), encoding="utf-8")
