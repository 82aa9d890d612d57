"""What is written beside the edges of a graph's pictures."""

from collections.abc import Iterator, Sequence

from avtomatika_trio._core.graph import GraphEdge
from avtomatika_trio._core.text_width import width_of

_MOST_LINES = 6
"""More labels than that, a line each, are taller than the states that they lead to."""
_LINE_COLUMNS = 36


def edge_label(edge: GraphEdge) -> str:
    """What leads along *edge*: status and skill, as far as it has them."""
    return " · ".join(part for part in (edge["status"], edge["skill"]) if part)


def label_lines(edges: Sequence[GraphEdge]) -> list[str]:
    """The labels of *edges* between the same two states, as lines of text.

    Each has a line of its own.  Where that would be many, those of a skill share lines: every
    status is there all the same, and the skill once, after the last of them.
    """
    labels = list(dict.fromkeys(label for label in map(edge_label, edges) if label))
    if len(labels) <= _MOST_LINES:
        return labels
    by_skill: dict[str, dict[str, None]] = {}
    for edge in edges:
        if edge_label(edge):
            by_skill.setdefault(edge["skill"] or "", {})[edge["status"] or ""] = None
    return [line for skill, statuses in by_skill.items() for line in _packed(skill, [*statuses])]


def _packed(skill: str, statuses: Sequence[str]) -> Iterator[str]:
    *others, last = statuses
    line = ""
    for word in [*(f"{it}," for it in others), " · ".join(filter(None, (last, skill)))]:
        longer = f"{line} {word}" if line else word
        if line and width_of(longer) > _LINE_COLUMNS:
            yield line
            longer = word
        line = longer
    yield line
