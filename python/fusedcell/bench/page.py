"""The page of `--html`: one file without scripts, in the browser's light or dark colours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from .._text import three_digits
from .bars import Bars

_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --ground: #ffffff; --bar: #08519c; --line: #d0d7de }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6edf3; --ground: #0d1117; --bar: #58a6ff; --line: #3d444d }
}
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif;
  color: var(--text); background: var(--ground) }
h2 { margin: 2rem 0 0; font-size: 1.15rem }
table { width: 100%; border-collapse: collapse }
caption { text-align: left }
details { margin-top: 2rem }
th, td { padding: .1rem .6rem .1rem 0; text-align: left; font-weight: normal; white-space: nowrap }
td:last-child { width: 100%; border-left: 1px solid var(--text) }
.bar { display: inline-block; height: .8rem; background: var(--bar); vertical-align: middle }
pre { overflow-x: auto; padding: .6rem; border: 1px solid var(--line) }
"""


def page(title: str, groups: Sequence[Bars], texts: Iterable[str]) -> str:
    """The bars of each group, and folded below them what a terminal shows with `--details`."""
    folded = "\n\n".join(texts)
    parts = [
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n<h1>{escape(title)}</h1>",
        *map(_section, groups),
        f"<details><summary>All tables, and the machine</summary><pre>{escape(folded)}</pre></details>\n</html>\n",
    ]
    return "\n".join(parts)


def _section(group: Bars) -> str:
    most = max(*group.values.values(), 1e-9)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(name)}<td>{three_digits(value)}'
        f'<td><span class="bar" style="width:{100 * max(value, 0) / most:.1f}%"></span>'
        for name, value in group.values.items()
    )
    text = f"<p>{escape(group.text)}</p>\n<table>\n<caption>{escape(group.unit)}</caption>\n{rows}\n</table>"
    return f"<h2>{escape(group.title)}</h2>\n{text}"
