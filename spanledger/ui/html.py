"""HTML and SVG as values: what is not `Markup` is escaped, always.

e("a.button", "Calls & costs", href="/ui/calls")   →   <a class="button" href="/ui/calls">Calls &amp; costs</a>
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_VOID = frozenset({"input", "link", "meta", "br", "hr", "img", "col"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


#: What may stand in an element. None and False are left out.
Node = str | int | None | bool | Iterable["Node"]


def render(node: Node) -> Markup:
    """A node as HTML."""
    if node is None or isinstance(node, bool):
        return Markup()
    if isinstance(node, Markup):
        return node
    if isinstance(node, str):
        return Markup(escape(node.replace("\0", "")))  # a NUL marks places in a page (`page.View.later`)
    if isinstance(node, int):
        return Markup(str(node))
    return Markup("".join(map(render, node)))


def e(tag: str, *children: Node, **attributes: str | float | bool | None) -> Markup:
    """An element. `tag` may name classes (`div.card.wide`); `class_` adds more; `aria_label` is aria-label; None and
    False leave an attribute out, True is one without a value."""
    name, *classes = tag.split(".")
    extra = attributes.pop("class_", None)
    if extra:
        classes.append(str(extra))
    written = f' class="{escape(" ".join(classes))}"' if classes else ""
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.strip("_").replace("_", "-")  # noqa: PLW2901
        written += f" {key}" if value is True else f' {key}="{escape(_text(value))}"'
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{render(children)}</{name}>")


def _text(value: str | float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
