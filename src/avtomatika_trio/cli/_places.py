"""Where the commands look for the settings file and for generated tokens.

The server, the worker and the client commands go by the same rules, so that commands given in
one folder, with one environment, fit together.
"""

import os
from argparse import Namespace
from pathlib import Path

from avtomatika_trio._config import OrchestratorSettings, find_settings_file
from avtomatika_trio.cli._exits import CommandError, Exit
from avtomatika_trio.orchestrator._tokens import TOKENS_FILE

#: Of an orchestrator whose storage is no file.
_WITHOUT_DATABASE = Path(".avtomatika")

_SQLITE = "sqlite:"


def settings_file(options: Namespace) -> Path | None:
    """The settings file: the one of `--config`, else the one found as the settings say."""
    if options.config is not None:
        return Path(options.config)
    return find_settings_file(os.environ)


def tokens_path(storage_url: str) -> Path:
    """Where the generated tokens of an orchestrator on *storage_url* are: beside its database."""
    if storage_url.startswith(_SQLITE):
        return Path(storage_url.removeprefix(_SQLITE)).parent / TOKENS_FILE
    return _WITHOUT_DATABASE / TOKENS_FILE


def token_files(settings: OrchestratorSettings) -> tuple[Path, ...]:
    """Where tokens may be that an orchestrator of this folder has generated, most likely first.

    It may have been started with another `--storage` than *settings* tell.
    """
    candidates = (
        tokens_path(settings.storage_url),
        tokens_path(OrchestratorSettings().storage_url),
        tokens_path("memory:"),
    )
    return tuple(dict.fromkeys(candidates))


def check_folder(storage_url: str) -> None:
    """Make sure that the database's folder is there; a slip in its name should not make one.

    Raises:
        CommandError: it is not.
    """
    folder = tokens_path(storage_url).parent
    if storage_url.startswith(_SQLITE) and not folder.is_dir():
        remedy = f"make it (mkdir -p {folder}), or give another --storage"
        raise CommandError(Exit.FAILED, f"there is no folder {folder} for the database; {remedy}")
