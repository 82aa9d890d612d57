"""Settings of the two programs: what they are, where they come from, what is wrong with them.

`_settings_orchestrator` and `_settings_worker` declare them, `_kinds`, `_addresses` and
`_targets` know how values look, `_file` reads `avtomatika.toml`, `_load` decides between
sources, `_docs` writes the reference page.  `_access_files` reads `workers.toml` and
`clients.toml`; `_pem` knows what is wrong with files of certificates.
Nothing here reads the process's environment: it is an argument.
"""

from avtomatika_trio._config._access_files import (
    ClientEntry as ClientEntry,
    WorkerEntry as WorkerEntry,
    read_clients_file as read_clients_file,
    read_workers_file as read_workers_file,
)
from avtomatika_trio._config._docs import settings_markdown as settings_markdown
from avtomatika_trio._config._file import find_settings_file as find_settings_file
from avtomatika_trio._config._kinds import Secret as Secret, is_loopback as is_loopback
from avtomatika_trio._config._load import (
    Entry as Entry,
    Loaded as Loaded,
    Report as Report,
    check as check,
    load_orchestrator_settings as load_orchestrator_settings,
    load_worker_settings as load_worker_settings,
)
from avtomatika_trio._config._masking import masked as masked
from avtomatika_trio._config._settings_files import (
    FileSettings as FileSettings,
    S3Access as S3Access,
)
from avtomatika_trio._config._settings_orchestrator import (
    OrchestratorSettings as OrchestratorSettings,
)
from avtomatika_trio._config._settings_worker import WorkerSettings as WorkerSettings
from avtomatika_trio._config._targets import Target as Target

__all__ = [
    "Entry",
    "FileSettings",
    "Loaded",
    "OrchestratorSettings",
    "Report",
    "S3Access",
    "Secret",
    "Target",
    "WorkerSettings",
    "check",
    "find_settings_file",
    "is_loopback",
    "load_orchestrator_settings",
    "load_worker_settings",
    "masked",
    "settings_markdown",
]
