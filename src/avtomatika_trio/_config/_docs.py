"""The reference page of settings, made from the table they are declared in."""

from pathlib import Path
from typing import Any

import attrs

from avtomatika_trio._config._kinds import in_bytes
from avtomatika_trio._config._setting import Setting, setting_of
from avtomatika_trio._config._settings_orchestrator import OrchestratorSettings
from avtomatika_trio._config._settings_worker import WorkerSettings

_INTRODUCTION = """\
# Settings

<!-- Generated from the code: python -m avtomatika_trio._config > docs/reference/settings.md -->

A setting comes from the first of these that gives it:

1. an argument of the command line,
2. a variable of the environment,
3. the settings file: the one that `AVTOMATIKA_CONFIG` names, else `avtomatika.toml` in the
   working directory if it is there,
4. its default.

In the file the keys are the names of the variables in lower case. They stand at the top, or,
where they are meant for one program only, in a table `[orchestrator]` or `[worker]`, which
comes before the top:

```toml
log_level = "INFO"

[orchestrator]
api_port = 8080
max_body_bytes = "2MiB"

[worker]
max_concurrent_tasks = 4
worker_individual_token_file = "/run/secrets/worker-token"
```

Where a setting has several names, the first one found counts. Every value that is present must
be well formed, also one that another outweighs; an empty variable is a mistake, not a default.
All problems are reported at once. An unknown key in the file is a mistake too; unknown
variables are ignored. Relative paths begin at the working directory.

A **secret** may be kept in a file: add `_FILE` to the name and give the file's path. White
space around the content is dropped. Secrets are never shown, in no log, error or report.
"""

_ABOUT = (
    (OrchestratorSettings, "Orchestrator"),
    (WorkerSettings, "Worker"),
)


def settings_markdown() -> str:
    """The whole page, as Markdown."""
    parts = [_INTRODUCTION]
    for kind, title in _ABOUT:
        usual = kind()
        rows = [_row(field, getattr(usual, field.name)) for field in attrs.fields(kind)]
        head = "| Variable | Value | Default | Meaning |\n| --- | --- | --- | --- |\n"
        parts.append(f"## {title}\n\n{head}{''.join(rows)}")
    return "\n".join(parts)


def _row(field: "attrs.Attribute[Any]", default: object) -> str:
    setting = setting_of(field)
    names = ", then ".join(f"`{name}`" for name in setting.names)
    secret = " **Secret.**" if setting.secret else ""
    cells = (names, _value(setting), _default(setting, default), setting.doc + secret)
    return f"| {' | '.join(cells)} |\n"


def _value(setting: Setting) -> str:
    if setting.kinds:
        return "; ".join(f"`{name}`: {kind.expects}" for name, kind in setting.kinds.items())
    return setting.kind.expects


def _default(setting: Setting, default: object) -> str:
    if default is None or default == ():
        return "none"
    if isinstance(default, tuple):
        return ", ".join(f"`{target.url}`" for target in default)
    if isinstance(default, float):
        return f"`{default:.10g}`"
    if isinstance(default, int) and setting.names[0].endswith("_BYTES"):
        return f"`{in_bytes(default)}`"
    return f"`{default.as_posix() if isinstance(default, Path) else default}`"
