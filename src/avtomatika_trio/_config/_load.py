"""Settings from their sources: argument, then environment, then file, then default.

Every value that is present is checked, also one that another source outweighs:
a mistake is reported when it is made, not when it begins to count.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import attrs

from avtomatika_trio._config._addresses import STORAGE
from avtomatika_trio._config._file import CONFIG_VARIABLE, Document, read_document
from avtomatika_trio._config._kinds import SECRET_FILE, Kind, Malformed
from avtomatika_trio._config._masking import masked
from avtomatika_trio._config._redis_choice import doubts
from avtomatika_trio._config._setting import Setting, setting_of
from avtomatika_trio._config._settings_orchestrator import OrchestratorSettings
from avtomatika_trio._config._settings_worker import WorkerSettings
from avtomatika_trio._config._targets import Target
from avtomatika_trio.errors import ConfigError

S = TypeVar("S", OrchestratorSettings, WorkerSettings)

_TABLES: dict[type[Any], str] = {OrchestratorSettings: "orchestrator", WorkerSettings: "worker"}
_PREFIX = "AVTOMATIKA_"

#: Variables of that prefix which are not settings of a program: the client commands' own.
_OTHERS = frozenset({"AVTOMATIKA_URL", "AVTOMATIKA_CLIENT_TOKEN"})

_ARGUMENT, _ENVIRONMENT, _FILE, _DEFAULT = range(4)


@attrs.frozen(kw_only=True)
class Loaded(Generic[S]):
    """Settings, and where each came from."""

    settings: S
    sources: Mapping[str, str]
    """By field: `environment API_PORT`, `avtomatika.toml line 3`, `argument --port`, `default`."""
    warnings: tuple[str, ...]
    """What is ignored: variables that look like a setting with a slip in its name, and what
    another setting outweighs by mistake."""


@attrs.frozen(kw_only=True)
class Entry:
    """One line of a report: a setting as it stands."""

    field: str
    name: str
    """The variable of the environment that sets it first."""
    value: str
    """For people; a secret is `***`, a value that could not be read `(malformed)`."""
    source: str


@attrs.frozen(kw_only=True)
class Report:
    """All settings of one program, for `avtomatika check`."""

    entries: tuple[Entry, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


@attrs.frozen(kw_only=True)
class _Given:
    """A value that one source gives, not yet read."""

    rank: int
    source: str
    place: str
    """What a complaint about it begins with."""
    raw: object
    kind: Kind[Any]


@attrs.define(kw_only=True)
class _Resolution:
    """What the sources come to, field by field; a malformed field has no value."""

    values: dict[str, Any] = attrs.Factory(dict)
    sources: dict[str, str] = attrs.Factory(dict)
    ranks: dict[str, int] = attrs.Factory(dict)
    problems: list[str] = attrs.Factory(list)
    warnings: list[str] = attrs.Factory(list)


def load_orchestrator_settings(
    *, environ: Mapping[str, str], file: Path | None, overrides: Mapping[str, object]
) -> Loaded[OrchestratorSettings]:
    """The settings of an orchestrator.

    Args:
        environ: Variables of the environment.
        file: The settings file, see `find_settings_file`; `None` reads none.
        overrides: By field; `None` means that the argument was not given.

    Raises:
        ConfigError: with every problem of every source.
    """
    found = _resolve(OrchestratorSettings, environ, file, overrides)
    return _loaded(OrchestratorSettings, found, environ)


def load_worker_settings(
    *,
    environ: Mapping[str, str],
    file: Path | None,
    overrides: Mapping[str, object],
    in_code: bool = False,
) -> Loaded[WorkerSettings]:
    """The settings of a worker; see `load_orchestrator_settings`.

    With *in_code* the *overrides* were written in Python, and not as options.

    Raises:
        ConfigError: with every problem of every source.
    """
    found = _resolve(WorkerSettings, environ, file, overrides, in_code=in_code)
    return _loaded(WorkerSettings, found, environ)


def check(
    kind: type[OrchestratorSettings] | type[WorkerSettings],
    *,
    environ: Mapping[str, str],
    file: Path | None,
    overrides: Mapping[str, object],
) -> Report:
    """What loading *kind* would come to; arguments as in `load_orchestrator_settings`."""
    found = _resolve(kind, environ, file, overrides)
    entries = []
    for field in attrs.fields(kind):
        setting = setting_of(field)
        value = "(malformed)"
        if field.name in found.values:
            value = _displayed(setting, found.values[field.name])
        source = found.sources[field.name]
        entries.append(Entry(field=field.name, name=setting.names[0], value=value, source=source))
    return Report(
        entries=tuple(entries),
        problems=(*found.problems, *_faults_of_s3(kind, found)),
        warnings=(*found.warnings, *_near_misses(environ)),
    )


def _displayed(setting: Setting, value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return ", ".join(str(getattr(it, "url", it)) for it in value) or "none"
    return masked(str(value)) if setting.kind is STORAGE else str(value)


def _loaded(kind: type[S], found: _Resolution, environ: Mapping[str, str]) -> Loaded[S]:
    if found.problems:
        raise ConfigError(tuple(found.problems))
    return Loaded(
        settings=kind(**found.values),
        sources=found.sources,
        warnings=(*found.warnings, *_near_misses(environ)),
    )


def _resolve(
    kind: type[Any],
    environ: Mapping[str, str],
    file: Path | None,
    overrides: Mapping[str, object],
    *,
    in_code: bool = False,
) -> _Resolution:
    document = Document() if file is None else read_document(file)
    found = _Resolution()
    found.problems += _unknown_arguments(kind, overrides)
    if environ.get(CONFIG_VARIABLE) == "":
        found.problems.append(
            f"{CONFIG_VARIABLE}: it is empty; give the path of a TOML file, or unset it"
        )
    found.problems += document.problems
    found.problems += _unknown_keys(document)
    for field in attrs.fields(kind):
        setting = setting_of(field)
        given = [
            *_from_arguments(field.name, setting, overrides, in_code=in_code),
            *_from_environment(setting, environ),
            *_from_document(setting, document, _TABLES[kind]),
        ]
        found.problems += _doubled(setting, environ, document, _TABLES[kind])
        _decide(kind, found, field, given)
    _weigh_tokens(found)
    if kind is OrchestratorSettings and not found.problems:
        _weigh_redis(found)
        _weigh_retention(found)
    return found


def _decide(
    kind: type[Any], found: _Resolution, field: "attrs.Attribute[Any]", given: list[_Given]
) -> None:
    """Read all that was *given* for *field*, and keep the first.

    A default may depend on the fields of *kind* that are declared before.
    """
    if not given:
        found.values[field.name] = getattr(kind(**found.values), field.name)
        found.sources[field.name] = "default"
        found.ranks[field.name] = _DEFAULT
        return
    found.sources[field.name] = given[0].source
    found.ranks[field.name] = given[0].rank
    for candidate in given:
        try:
            value = candidate.kind.parse(candidate.raw)
        except Malformed as fault:
            found.problems.append(f"{candidate.place}: {fault}")
        else:
            if candidate is given[0]:
                found.values[field.name] = value


def _weigh_tokens(found: _Resolution) -> None:
    """Let a token outweigh those of `ORCHESTRATORS_CONFIG` if its source does.

    Of one source, the token of an entry is the more particular one.
    """
    targets: tuple[Target, ...] = found.values.get("orchestrators", ())
    if targets and found.ranks["token"] < found.ranks["orchestrators"]:
        found.values["orchestrators"] = tuple(attrs.evolve(it, token=None) for it in targets)


def _weigh_redis(found: _Resolution) -> None:
    """Without `STORAGE_URL` the storage comes from where the host of Redis comes from."""
    given = {name for name, rank in found.ranks.items() if rank != _DEFAULT}
    if "storage_url" not in given and "redis_host" in given:
        found.sources["storage_url"] = found.sources["redis_host"]
    found.warnings += doubts(found.values, found.sources, given)


def _from_arguments(
    name: str, setting: Setting, overrides: Mapping[str, object], *, in_code: bool
) -> Iterator[_Given]:
    raw = overrides.get(name)
    if raw is not None:
        flag = name if in_code else setting.flag or f"--{name.replace('_', '-')}"
        yield _Given(
            rank=_ARGUMENT, source=f"argument {flag}", place=flag, raw=raw, kind=setting.kind
        )


def _from_environment(setting: Setting, environ: Mapping[str, str]) -> Iterator[_Given]:
    prefix = setting.prefix
    if prefix is not None:
        members = {it.removeprefix(prefix): environ[it] for it in environ if it.startswith(prefix)}
        if members:
            yield _Given(
                rank=_ENVIRONMENT,
                source=f"environment {prefix}*",
                place=f"{prefix}*",
                raw=members,
                kind=setting.kind,
            )
    for name, kind in _spellings(setting):
        if name in environ:
            yield _Given(
                rank=_ENVIRONMENT,
                source=f"environment {name}",
                place=name,
                raw=environ[name],
                kind=kind,
            )


def _from_document(setting: Setting, document: Document, own_table: str) -> Iterator[_Given]:
    for table in (own_table, ""):
        values = document.table(table)
        for name, kind in _spellings(setting):
            key = name.lower()
            if key in values:
                place = document.place(*filter(None, (table, key)))
                yield _Given(
                    rank=_FILE,
                    source=place,
                    place=f"{place}, {key}",
                    raw=values[key],
                    kind=kind,
                )


def _spellings(setting: Setting) -> Iterator[tuple[str, Kind[Any]]]:
    """Every variable that *setting* is read from, in order, with how it is written."""
    for name in setting.names:
        yield name, setting.kind_of(name)
        if setting.secret:
            yield f"{name}_FILE", SECRET_FILE


def _doubled(
    setting: Setting, environ: Mapping[str, str], document: Document, own_table: str
) -> Iterator[str]:
    """Secrets that one source gives both as text and as a file."""
    if not setting.secret:
        return
    for name in setting.names:
        pair = (name, f"{name}_FILE")
        if all(one in environ for one in pair):
            yield f"{pair[0]} and {pair[1]} are both set; keep one"
        keys = (pair[0].lower(), pair[1].lower())
        for table in (own_table, ""):
            if all(key in document.table(table) for key in keys):
                place = document.place(*filter(None, (table, keys[1])))
                yield f"{place}: {keys[0]} and {keys[1]} are both set; keep one"


def known_variables(kind: type[Any]) -> tuple[str, ...]:
    """Every variable of the environment that settings of *kind* are read from."""
    return tuple(name for field in attrs.fields(kind) for name, _ in _spellings(setting_of(field)))


def _unknown_arguments(kind: type[Any], overrides: Mapping[str, object]) -> Iterator[str]:
    fields = [field.name for field in attrs.fields(kind)]
    for name in overrides:
        if name not in fields:
            hint = _did_you_mean(name, fields)
            yield f"argument {name!r}: there is no such setting of this program{hint}"


def _unknown_keys(document: Document) -> Iterator[str]:
    keys = {
        table: [name.lower() for name in known_variables(kind)] for kind, table in _TABLES.items()
    }
    keys[""] = [*keys, *(key for known in keys.values() for key in known)]
    for table, known in keys.items():
        for key in document.table(table):
            if key not in known:
                place = document.place(*filter(None, (table, key)))
                where = f" in [{table}]" if table else ""
                hint = _hint_of_key(key, table, keys)
                yield f"{place}: unknown key {key!r}{where}{hint}"
    for table in _TABLES.values():
        if not isinstance(document.values.get(table, {}), Mapping):
            yield f"{document.place(table)}: {table!r} is not a table; write it as [{table}]"


def _hint_of_key(key: str, table: str, keys: Mapping[str, list[str]]) -> str:
    for other in _TABLES.values():
        if table and other != table and key in keys[other]:
            return f"; it belongs in [{other}]"
    for kind, its in _TABLES.items():  # a name that it has in programs and as an option
        field = attrs.fields_dict(kind).get(key)
        if field is not None and table in ("", its):
            return f"; did you mean {setting_of(field).names[0].lower()!r}?"
    return _did_you_mean(key.lower(), keys[table]) or "; remove it"


def _weigh_retention(found: _Resolution) -> None:
    jobs, files = (found.values[f"{it}_retention_seconds"] for it in ("jobs", "files"))
    if found.values["s3_auto_cleanup"] and jobs is not None and jobs < files:
        found.problems.append(
            f"JOBS_RETENTION_SECONDS: {jobs:.10g} is shorter than FILES_RETENTION_SECONDS,"
            f" {files:.10g}: the files of a job cannot stay longer than the job; give at least as"
            " much, or none"
        )


def _faults_of_s3(
    kind: type[OrchestratorSettings] | type[WorkerSettings], found: _Resolution
) -> tuple[str, ...]:
    if found.problems:
        return ()
    try:
        kind(**found.values).s3()
    except ConfigError as exc:
        return exc.problems
    return ()


def _near_misses(environ: Mapping[str, str]) -> tuple[str, ...]:
    known = {CONFIG_VARIABLE, *(name for kind in _TABLES for name in known_variables(kind))}
    missed = []
    for name in sorted(environ):
        if name.startswith(_PREFIX) and name not in known | _OTHERS:
            hint = _did_you_mean(name, sorted(known)) or _did_you_mean(
                name.removeprefix(_PREFIX), sorted(known)
            )
            if hint:
                missed.append(f"{name} is not a setting and is ignored{hint}")
    return tuple(missed)


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.75)
    return f"; did you mean {near[0]!r}?" if near else ""
