"""How a setting is declared: as a field whose metadata holds its `Setting`.

That is all that loading, `avtomatika check` and the reference page know about it.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import attrs

from avtomatika_trio._config._kinds import LOG_FORMAT, LOG_LEVEL, SECRET, SWITCH, Kind

T = TypeVar("T")
D = TypeVar("D")

DAY_SECONDS = 86_400


@attrs.frozen(kw_only=True)
class Setting:
    """What is known of one setting besides its field's name and default."""

    names: tuple[str, ...]
    """Variables of the environment, the first one found wins; lower-case in TOML."""
    kind: Kind[Any]
    kinds: Mapping[str, Kind[Any]]
    """Kinds of those names that are written differently from the others."""
    flag: str | None
    """The argument of the command line, where it is not the field's name."""
    doc: str
    prefix: str | None = None
    """Variables that begin so are members of the value; what follows is their name."""

    @property
    def secret(self) -> bool:
        """Whether the value may never be shown, and may come from a `_FILE`."""
        return self.kind is SECRET

    def kind_of(self, name: str) -> Kind[Any]:
        """The kind that the variable *name* is written in."""
        return self.kinds.get(name, self.kind)


def setting(
    kind: Kind[T],
    *names: str,
    default: D,
    doc: str,
    flag: str | None = None,
    kinds: Mapping[str, Kind[Any]] | None = None,
    prefix: str | None = None,
    show: Callable[[Any], str] = repr,
) -> T | D:
    """A field with its `Setting`; *show* is how `repr` of the class writes the value."""
    declared = Setting(names=names, kind=kind, kinds=kinds or {}, flag=flag, doc=doc, prefix=prefix)
    return cast("T | D", attrs.field(default=default, repr=show, metadata={Setting: declared}))


def log_level() -> str:
    return setting(
        LOG_LEVEL,
        "LOG_LEVEL",
        default="INFO",
        doc="The least important messages that are logged.",
    )


def log_format() -> str:
    return setting(
        LOG_FORMAT,
        "LOG_FORMAT",
        default="text",
        doc="How the log is written: `text`, or `json` for one object a line.",
    )


def strict_event_validation() -> bool:
    return setting(
        SWITCH,
        "STRICT_EVENT_VALIDATION",
        default=True,
        doc="Whether an event is refused if its skill does not declare its type in "
        "`events_schema`.",
    )


def setting_of(field: "attrs.Attribute[Any]") -> Setting:
    """The `Setting` of a field of one of the classes below."""
    return cast(Setting, field.metadata[Setting])
