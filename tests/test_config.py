"""Settings: every source of every setting, every complaint to the letter."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from avtomatika_trio._config import (
    Loaded,
    OrchestratorSettings,
    S3Access,
    Secret,
    Target,
    WorkerSettings,
    check,
    find_settings_file,
    is_loopback,
    load_orchestrator_settings,
    load_worker_settings,
    masked,
    settings_markdown,
)
from avtomatika_trio._config._load import known_variables
from avtomatika_trio._config._setting import setting_of
from avtomatika_trio.errors import ConfigError
from avtomatika_trio.storage._redis_url import parse as parse_redis_url

ROOT = Path(__file__).parents[1]
HIDDEN = "hunter2"
A_FILE = Path(__file__)

#: Program, field, a text for it in the environment, and what that text means.
FILE_VALUES: list[tuple[str, str, object]] = [
    ("s3_endpoint", "http://localhost:9000", "http://localhost:9000"),
    ("s3_access_key", "key-id", Secret("key-id")),
    ("s3_secret_key", "s3-key", Secret("s3-key")),
    ("s3_session_token", "s3-token", Secret("s3-token")),
    ("s3_region", "eu-central-1", "eu-central-1"),
    ("s3_bucket", "worker-results", "worker-results"),
    ("s3_max_concurrency", "4", 4),
    ("aws_endpoint", "https://s3.example", "https://s3.example"),
    ("aws_access_key", "key-id", Secret("key-id")),
    ("aws_secret_key", "s3-key", Secret("s3-key")),
    ("aws_session_token", "s3-token", Secret("s3-token")),
    ("aws_region", "eu-central-1", "eu-central-1"),
]
ORCHESTRATOR_VALUES: list[tuple[str, str, object]] = [
    *FILE_VALUES,
    ("files_dir", "/srv/files", Path("/srv/files")),
    ("task_files_dir", "/srv/tasks", Path("/srv/tasks")),
    ("max_file_bytes", "1GiB", 1024**3),
    ("s3_auto_cleanup", "off", False),
    ("files_retention_seconds", "60", 60.0),
    ("jobs_retention_seconds", "1e6", 1_000_000.0),
    ("redis_host", "[::1]", "::1"),
    ("redis_port", "6380", 6380),
    ("redis_db", "3", 3),
    ("storage_partitions", "7", 7),
    ("storage_url", "redis://db:6379/0", "redis://db:6379/0"),
    ("host", "[::1]", "::1"),
    ("port", "9000", 9000),
    ("blueprints", "flows", "flows"),
    ("max_body_bytes", "2MiB", 2 * 1024**2),
    ("max_params_bytes", "512KiB", 512 * 1024),
    ("client_token", "c-token", Secret("c-token")),
    ("worker_token", "w-token", Secret("w-token")),
    ("workers_config", str(A_FILE), A_FILE),
    ("clients_config", str(A_FILE), A_FILE),
    ("time_zone", "Europe/Berlin", ZoneInfo("Europe/Berlin")),
    ("worker_auth_mode", "MTLS-only", "mtls-only"),
    ("worker_signing", "Required", "required"),
    ("secret_key", "s-key", Secret("s-key")),
    ("access_token_seconds", "600", 600.0),
    ("tls_enabled", "yes", True),
    ("tls_cert", str(A_FILE), A_FILE),
    ("tls_key", str(A_FILE), A_FILE),
    ("tls_ca", str(A_FILE), A_FILE),
    ("tls_require_client_cert", "1", True),
    ("rate_limiting", "Off", False),
    ("rate_limit_period_seconds", "1.5", 1.5),
    ("rate_limit", "1", 1),
    ("rate_limit_heartbeats", "2", 2),
    ("rate_limit_polls", "3", 3),
    ("rate_limit_events", "4", 4),
    ("rate_limit_clients", "5", 5),
    ("strict_event_validation", "no", False),
    ("lease_seconds", "7.5", 7.5),
    ("poll_hold_seconds", "20", 20.0),
    ("handler_timeout_seconds", "1e2", 100.0),
    ("max_transitions_per_job", "7", 7),
    ("max_lost_attempts", "3", 3),
    ("blocked_loop_seconds", "60", 60.0),
    ("grace_seconds", "0", 0.0),
    ("log_level", "debug", "DEBUG"),
    ("log_format", "JSON", "json"),
]
WORKER_VALUES: list[tuple[str, str, object]] = [
    *FILE_VALUES,
    ("s3_allowed_buckets", "inputs, more-inputs", ("inputs", "more-inputs")),
    ("files_dir", "/srv/files", Path("/srv/files")),
    ("payload_dir", "/srv/payloads", Path("/srv/payloads")),
    ("payload_max_bytes", "10GiB", 10 * 1024**3),
    ("blob_cache_dir", "/srv/cache", Path("/srv/cache")),
    ("blob_cache_max_bytes", "20GiB", 20 * 1024**3),
    ("skills_dir", "/srv/skills", Path("/srv/skills")),
    ("worker_id", "gpu-1", "gpu-1"),
    (
        "orchestrators",
        "HTTPS://main.example:8443/flows/",
        (Target(url="https://main.example:8443/flows"),),
    ),
    ("mode", "round_robin", "ROUND_ROBIN"),
    ("failback_stable_seconds", "2.5", 2.5),
    ("token", "w-token", Secret("w-token")),
    ("secret_key", "s-key", Secret("s-key")),
    ("require_task_signature", "no", False),
    ("use_access_tokens", "TRUE", True),
    ("tls_ca", str(A_FILE), A_FILE),
    ("tls_cert", str(A_FILE), A_FILE),
    ("tls_key", str(A_FILE), A_FILE),
    ("max_concurrent_tasks", "4", 4),
    ("poll_timeout_seconds", "60", 60.0),
    ("heartbeat_interval_seconds", "2.5", 2.5),
    ("worker_type", "gpu-box", "gpu-box"),
    ("cpu_cores", "12", 12),
    ("ram_gb", "31.5", 31.5),
    ("gpu_model", "RTX 4090", "RTX 4090"),
    ("gpu_id", "1", 1),
    ("gpu_vram_gb", "24", 24.0),
    ("devices", '[{"type": "npu", "model": "N1"}]', ({"type": "npu", "model": "N1"},)),
    ("installed_software", '{"cuda": "12.4"}', {"cuda": "12.4"}),
    ("installed_artifacts", '[{"name": "m", "version": "2"}]', ({"name": "m", "version": "2"},)),
    ("cost_per_skill", '{"render": 0.5, "mix": 0}', {"render": 0.5, "mix": 0.0}),
    ("cost_per_second", "0.25", 0.25),
    ("extra", '{"Zone": "eu-1", "tags": "[1, 2]"}', {"zone": "eu-1", "tags": [1, 2]}),
    ("telemetry_deadband", "2.5", 2.5),
    ("telemetry_force_seconds", "30", 30.0),
    ("spool_dir", "/var/spool/w", Path("/var/spool/w")),
    ("spool_max_entries", "50", 50),
    ("strict_event_validation", "no", False),
    ("health_port", "off", None),
    ("health_host", "0.0.0.0", "0.0.0.0"),
    ("shutdown_timeout_seconds", "5", 5.0),
    ("log_level", "Error", "ERROR"),
    ("log_format", "json", "json"),
]
CASES: list[tuple[type[Any], str, str, object]] = [
    *((OrchestratorSettings, *row) for row in ORCHESTRATOR_VALUES),
    *((WorkerSettings, *row) for row in WORKER_VALUES),
]
IDS = [f"{kind.__name__}-{field}" for kind, field, _, _ in CASES]
each_setting = pytest.mark.parametrize(("kind", "field", "text", "value"), CASES, ids=IDS)


def load(
    kind: type[Any],
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
    **overrides: object,
) -> Loaded[Any]:
    loader: Any = {
        OrchestratorSettings: load_orchestrator_settings,
        WorkerSettings: load_worker_settings,
    }[kind]
    loaded: Loaded[Any] = loader(environ=environ or {}, file=file, overrides=overrides)
    return loaded


def problems(
    kind: type[Any],
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
    **overrides: object,
) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(kind, environ, file, **overrides)
    return list(caught.value.problems)


def names_of(kind: type[Any], field: str) -> tuple[str, ...]:
    names = setting_of(attrs.fields_dict(kind)[field]).names
    return tuple(name for name in names if name != "ORCHESTRATORS_CONFIG")


def write(folder: Path, text: str) -> Path:
    path = folder / "avtomatika.toml"
    path.write_text(text)
    return path


def test_the_table_of_cases_names_every_setting() -> None:
    for kind in (OrchestratorSettings, WorkerSettings):
        covered = [field for case, field, _, _ in CASES if case is kind]
        assert covered == [field.name for field in attrs.fields(kind)]


# --- sources ------------------------------------------------------------------


@each_setting
def test_without_sources_a_setting_has_its_default(
    kind: type[Any], field: str, text: str, value: object
) -> None:
    loaded = load(kind)
    assert loaded.settings == kind()
    assert loaded.sources[field] == "default"


@each_setting
def test_every_name_in_the_environment_sets_its_setting(
    kind: type[Any], field: str, text: str, value: object
) -> None:
    for name in names_of(kind, field):
        loaded = load(kind, {name: text})
        assert getattr(loaded.settings, field) == value
        assert loaded.sources[field] == f"environment {name}"


@each_setting
@pytest.mark.parametrize("in_own_table", [False, True])
def test_every_name_in_the_file_sets_its_setting_and_is_found_by_line(
    kind: type[Any], field: str, text: str, value: object, in_own_table: bool, tmp_path: Path
) -> None:
    table = "[orchestrator]" if kind is OrchestratorSettings else "[worker]"
    header = table if in_own_table else "# flat"
    for name in names_of(kind, field):
        path = write(tmp_path, f"{header}\n\n{name.lower()} = {json.dumps(text)}\n")
        loaded = load(kind, file=path)
        assert getattr(loaded.settings, field) == value
        assert loaded.sources[field] == f"{path} line 3"


@each_setting
def test_an_argument_sets_its_setting(
    kind: type[Any], field: str, text: str, value: object
) -> None:
    arguments: dict[str, Any] = {field: text}
    loaded = load(kind, **arguments)
    assert getattr(loaded.settings, field) == value
    assert loaded.sources[field].startswith("argument --")


@each_setting
def test_an_argument_may_be_the_value_itself(
    kind: type[Any], field: str, text: str, value: object
) -> None:
    arguments: dict[str, Any] = {field: value}
    if value is not None:
        assert getattr(load(kind, **arguments).settings, field) == value


def test_arguments_come_before_the_environment_before_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "api_port = 3\n")
    environ = {"API_PORT": "2"}
    assert load(OrchestratorSettings, environ, path, port=1).settings.port == 1
    assert load(OrchestratorSettings, environ, path, port=None).settings.port == 2
    assert load(OrchestratorSettings, {}, path).settings.port == 3


def test_the_arguments_of_the_command_line_are_named_as_they_are_typed() -> None:
    loaded = load(OrchestratorSettings, storage_url="memory:", port=1, log_level="INFO")
    assert loaded.sources["storage_url"] == "argument --storage"
    assert loaded.sources["port"] == "argument --port"
    assert loaded.sources["log_level"] == "argument --log-level"


@pytest.mark.parametrize(
    ("kind", "field", "names"),
    [
        (OrchestratorSettings, "worker_token", ["GLOBAL_WORKER_TOKEN", "WORKER_TOKEN"]),
        (
            WorkerSettings,
            "token",
            ["WORKER_INDIVIDUAL_TOKEN", "AVTOMATIKA_WORKER_TOKEN", "WORKER_TOKEN"],
        ),
    ],
)
def test_the_first_of_several_names_counts(
    kind: type[Any], field: str, names: list[str], tmp_path: Path
) -> None:
    while names:
        environ = {name: f"token-of-{name}" for name in names}
        loaded = load(kind, environ)
        assert getattr(loaded.settings, field).reveal() == f"token-of-{names[0]}"
        text = "".join(f"{name.lower()} = '{token}'\n" for name, token in environ.items())
        loaded = load(kind, file=write(tmp_path, text))
        assert getattr(loaded.settings, field).reveal() == f"token-of-{names[0]}"
        names = names[1:]


def test_the_table_of_a_program_comes_before_the_top_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "log_level = 'ERROR'\n[worker]\nlog_level = 'DEBUG'\n")
    assert load(WorkerSettings, file=path).settings.log_level == "DEBUG"
    assert load(OrchestratorSettings, file=path).settings.log_level == "ERROR"


def test_toml_numbers_need_no_quotes(tmp_path: Path) -> None:
    path = write(tmp_path, "api_port = 9\nmax_body_bytes = 2048\nlease_seconds = 4\n")
    found = load(OrchestratorSettings, file=path).settings
    assert (found.port, found.max_body_bytes, found.lease_seconds) == (9, 2048, 4.0)


def test_lines_are_right_behind_values_that_span_several(tmp_path: Path) -> None:
    text = (
        'orchestrators_config = [\n  # the only one\n  {url = "http://a:1"},\n]\n\n'
        '[worker]\nworker_spool_dir = """\\\n  max_concurrent_tasks = 1"""\n'
        "max_concurrent_tasks = 2\n"
    )
    path = write(tmp_path, text.replace("\n", "\r\n"))
    sources = load(WorkerSettings, file=path).sources
    assert sources["orchestrators"] == f"{path} line 1"
    assert sources["spool_dir"] == f"{path} line 7"
    assert sources["max_concurrent_tasks"] == f"{path} line 9"


@pytest.mark.parametrize("text", ["\nworker.worker_port = 1", "\nworker = {worker_port = 1}"])
def test_a_table_may_be_written_in_one_line(text: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    loaded = load(WorkerSettings, file=path)
    assert loaded.settings.health_port == 1
    assert loaded.sources["health_port"] == f"{path} line 2"


@pytest.mark.parametrize(
    "url",
    [
        *("memory:", "sqlite:a/b.db", "sqlite:/a.db", "rediss://:p@h/0"),
        *("redis+sentinel://u:p@a,b:26380/jobs/1", "rediss+cluster://:p@[::1]:7000,b"),
    ],
)
def test_every_shape_of_storage_is_kept_as_written(url: str) -> None:
    assert load(OrchestratorSettings, {"STORAGE_URL": url}).settings.storage_url == url


@pytest.mark.parametrize("text", ["0", "off", "OFF"])
def test_the_health_port_can_be_switched_off(text: str) -> None:
    assert load(WorkerSettings, {"WORKER_PORT": text}).settings.health_port is None


@pytest.mark.parametrize("text", ["none", "None"])
def test_jobs_can_be_kept_for_good(text: str, tmp_path: Path) -> None:
    assert OrchestratorSettings().jobs_retention_seconds == 30 * 86_400
    by_variable = load(OrchestratorSettings, {"JOBS_RETENTION_SECONDS": text})
    assert by_variable.settings.jobs_retention_seconds is None
    path = write(tmp_path, f'[orchestrator]\njobs_retention_seconds = "{text}"')
    assert load(OrchestratorSettings, file=path).settings.jobs_retention_seconds is None


def test_jobs_stay_at_least_as_long_as_their_files() -> None:
    shorter = {"JOBS_RETENTION_SECONDS": "9", "FILES_RETENTION_SECONDS": "10"}
    with pytest.raises(ConfigError, match=r"JOBS_RETENTION_SECONDS: 9 is shorter.*FILES.*10"):
        load(OrchestratorSettings, shorter)
    load(OrchestratorSettings, {**shorter, "FILES_RETENTION_SECONDS": "9"})
    load(OrchestratorSettings, {**shorter, "S3_AUTO_CLEANUP": "off"})
    load(OrchestratorSettings, {**shorter, "JOBS_RETENTION_SECONDS": "none"})
    with pytest.raises(ConfigError, match=r'give a number of seconds .*, or "none"'):
        load(OrchestratorSettings, {"JOBS_RETENTION_SECONDS": "for ever"})


def test_the_file_is_named_by_the_variable_or_lies_in_the_folder(tmp_path: Path) -> None:
    assert find_settings_file({}, tmp_path) is None
    path = write(tmp_path, "")
    assert find_settings_file({}, tmp_path) == path
    elsewhere = {"AVTOMATIKA_CONFIG": "elsewhere.toml"}
    assert find_settings_file(elsewhere, tmp_path) == Path("elsewhere.toml")


# --- REDIS_HOST and STORAGE_URL ----------------------------------------------


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"REDIS_HOST": "db"}, "redis://db:6379/0"),
        ({"REDIS_HOST": "::1", "REDIS_PORT": "7", "REDIS_DB": "2"}, "redis://[::1]:7/2"),
    ],
)
def test_the_host_of_redis_chooses_the_storage(environ: dict[str, str], url: str) -> None:
    loaded = load(OrchestratorSettings, environ)
    assert loaded.settings.storage_url == url
    assert loaded.sources["storage_url"] == "environment REDIS_HOST"
    assert loaded.warnings == ()
    assert OrchestratorSettings(redis_host="db").storage_url == "redis://db:6379/0"


def test_the_url_of_a_storage_outweighs_the_host_of_redis_and_a_difference_is_told() -> None:
    environ = {"REDIS_HOST": "db", "STORAGE_URL": f"redis://:{HIDDEN}@other"}
    loaded = load(OrchestratorSettings, environ)
    assert loaded.settings.storage_url == environ["STORAGE_URL"]
    [warning] = loaded.warnings
    assert warning == (
        "environment STORAGE_URL outweighs environment REDIS_HOST: jobs are kept in"
        " redis://***@other, not in redis://db:6379/0; remove what is not meant"
    )
    assert len(load(OrchestratorSettings, environ, storage_url="memory:").warnings) == 1
    assert check(OrchestratorSettings, environ=environ, file=None, overrides={}).warnings


def test_the_same_place_twice_is_no_contradiction() -> None:
    environ = {"REDIS_HOST": "db", "STORAGE_URL": f"rediss://:{HIDDEN}@db/0"}
    assert load(OrchestratorSettings, environ).warnings == ()


def test_a_port_of_redis_without_a_host_is_told() -> None:
    loaded = load(OrchestratorSettings, {"REDIS_PORT": "6380"})
    assert loaded.settings.storage_url == "sqlite:avtomatika.db"
    assert loaded.warnings == ("environment REDIS_PORT: ignored, since REDIS_HOST is not given",)


@pytest.mark.parametrize(
    "url",
    [
        *("redis:", "redis:db", "redis+single://h", "redis+nothing://h", "redis://", "redis://a,b"),
        *(f"redis://:{HIDDEN}@h:0", f"redis://{HIDDEN}@h", f"redis://:{HIDDEN}/@h", "redis://h/x"),
        *(
            "redis+sentinel://h",
            "redis+cluster://h/1",
            "redis://h?ssl_ca_certs=x",
            "rediss://h?x=1",
        ),
    ],
)
def test_the_settings_and_the_storage_refuse_a_url_of_redis_with_the_same_words(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_redis_url(url)
    [fault] = caught.value.problems
    assert problems(OrchestratorSettings, {"STORAGE_URL": url}) == [f"STORAGE_URL: {fault}"]
    assert HIDDEN not in fault
    assert "; give redis" in fault


# --- ORCHESTRATORS_CONFIG ----------------------------------------------------


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ('["http://a:1/", "http://b:2"]', Target(url="http://a:1")),
        ('[{"url": "http://a:1"}, "http://b:2"]', Target(url="http://a:1")),
        (
            '[{"url": "http://a:1", "priority": 1, "weight": 2.5, "token": "own"}, "http://b:2"]',
            Target(url="http://a:1", priority=1, weight=2.5, token=Secret("own")),
        ),
    ],
)
def test_a_list_of_orchestrators_keeps_its_order_and_comes_before_the_single_address(
    text: str, first: Target
) -> None:
    environ = {"ORCHESTRATORS_CONFIG": text, "ORCHESTRATOR_URL": "http://c:1"}
    loaded = load(WorkerSettings, environ)
    assert loaded.settings.orchestrators == (first, Target(url="http://b:2"))
    assert loaded.sources["orchestrators"] == "environment ORCHESTRATORS_CONFIG"


@pytest.mark.parametrize("name", ["ORCHESTRATOR_URLS", "ORCHESTRATOR_URL"])
def test_addresses_may_stand_with_commas_between(name: str) -> None:
    environ = {name: "http://a:1/, http://b:2"}
    loaded = load(WorkerSettings, environ)
    assert loaded.settings.orchestrators == (Target(url="http://a:1"), Target(url="http://b:2"))
    assert loaded.sources["orchestrators"] == f"environment {name}"


def test_of_several_variables_the_most_telling_one_counts(tmp_path: Path) -> None:
    environ = {"ORCHESTRATOR_URLS": "http://a:1", "ORCHESTRATOR_URL": "http://c:1"}
    assert load(WorkerSettings, environ).settings.orchestrators == (Target(url="http://a:1"),)
    path = write(tmp_path, 'orchestrator_urls = ["http://a:1", "http://b:2"]\n')
    found = load(WorkerSettings, file=path).settings
    assert [target.url for target in found.orchestrators] == ["http://a:1", "http://b:2"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("http://a:1,", "[1]: it is empty"),
        ("http://a:1,b:2", "[1]: 'b:2'"),
        ("http://a:1,http://a:1", "[1] has the address of [0], 'http://a:1'"),
        ("", "it is empty"),
    ],
)
def test_a_mistake_between_commas_is_told_with_its_place(text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(WorkerSettings, {"ORCHESTRATOR_URLS": text})
    (problem,) = caught.value.problems
    assert problem.startswith(f"ORCHESTRATOR_URLS: {fault}")
    assert problem.endswith(
        "give addresses with commas between, such as http://a:8080,http://b:8080"
    )


def test_a_list_may_be_written_in_toml(tmp_path: Path) -> None:
    text = 'orchestrators_config = [{url = "http://a:1", weight = 3}, "http://b:2"]\n'
    found = load(WorkerSettings, file=write(tmp_path, text)).settings
    assert found.orchestrators == (Target(url="http://a:1", weight=3.0), Target(url="http://b:2"))


def test_the_list_of_the_seed_page_is_read_as_it_stands_there() -> None:
    text = """[
        {"url": "http://main-orchestrator:8080"},
        {"url": "http://backup-orchestrator:8080"}
    ]"""
    environ = {"ORCHESTRATORS_CONFIG": text, "MULTI_ORCHESTRATOR_MODE": "FAILOVER"}
    found = load(WorkerSettings, environ).settings
    assert [target.url for target in found.orchestrators] == [
        "http://main-orchestrator:8080",
        "http://backup-orchestrator:8080",
    ]


def test_tokens_of_the_list_count_unless_a_source_before_it_gives_one(tmp_path: Path) -> None:
    own = '[{"url": "http://a:1", "token": "own"}, "http://b:1"]'
    environ = {"ORCHESTRATORS_CONFIG": own, "WORKER_INDIVIDUAL_TOKEN": "other"}

    def tokens(loaded: Loaded[WorkerSettings]) -> list[Secret | None]:
        found = loaded.settings
        return [target.token or found.token for target in found.orchestrators]

    assert tokens(load(WorkerSettings, environ)) == [Secret("own"), Secret("other")]
    assert tokens(load(WorkerSettings, environ, token="given")) == [Secret("given")] * 2
    path = write(tmp_path, f"orchestrators_config = '{own}'\n")
    found = load(WorkerSettings, {"WORKER_TOKEN": "other"}, path)
    assert tokens(found) == [Secret("other")] * 2
    assert tokens(load(WorkerSettings, file=path)) == [Secret("own"), None]


def test_addresses_given_as_argument_outweigh_the_list() -> None:
    environ = {"ORCHESTRATORS_CONFIG": '[{"url": "http://a:1", "token": "own"}]'}
    found = load(WorkerSettings, environ, orchestrators=["http://b:1", "http://c:1"]).settings
    assert found.orchestrators == (Target(url="http://b:1"), Target(url="http://c:1"))


LIST = 'give a JSON list of orchestrators, such as [{"url": "http://127.0.0.1:8080"}]'
ADDRESS = "give http://HOST:PORT or https://HOST:PORT, without credentials, query and fragment"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "it is empty"),
        (
            "[{]",
            (
                "it is not JSON at line 1, column 3: Expecting property name enclosed in "
                "double quotes"
            ),
        ),
        (
            '[{"url": "http://a",\n "x"}]',
            ("it is not JSON at line 2, column 5: Expecting ':' delimiter"),
        ),
        ("[" * 200_000, ("it is not JSON that can be read: nested too deep, or a huge number")),
        ('{"url": "http://a"}', "it is not a list"),
        ("[]", "the list is empty"),
        ('["http://a", "http://A/"]', "[1] has the address of [0], 'http://a'"),
        ('[{"url": "http://a", "url": "http://b"}]', "an object has the member 'url' twice"),
        (
            json.dumps([f"http://{n}" for n in range(101)]),
            "it names 101 orchestrators, more than 100",
        ),
        ("[3]", "[0] is neither an object nor an address"),
        ('[{"priority": 1}]', "[0] has no url"),
        (
            '[{"url": "http://a", "prioritty": 1}]',
            ("[0] has an unknown member 'prioritty'; did you mean 'priority'?"),
        ),
        ('["a:80"]', f"[0]: 'a:80' does not begin with http:// or https://; {ADDRESS}"),
        ('["http://a", "b"]', f"[1]: 'b' does not begin with http:// or https://; {ADDRESS}"),
        (
            '[{"url": {"token": "hunter2"}}]',
            (f"[0].url: a value of type dict is not a text; {ADDRESS}"),
        ),
        (
            '[{"url": "http://a", "priority": 1.5}]',
            (
                "[0].priority: 1.5 is not a whole number; "
                "give a whole number from -1000000 to 1000000"
            ),
        ),
        (
            '[{"url": "http://a", "weight": NaN}]',
            ("[0].weight: nan is out of range; give a number from 0.001 to 1000000"),
        ),
        (
            '["http://b", {"url": "http://a", "weight": 0}]',
            ("[1].weight: 0 is out of range; give a number from 0.001 to 1000000"),
        ),
        (
            '[{"url": "http://a", "token": "hunter 2"}]',
            (
                "[0].token: it holds a space or a "
                "character outside ASCII; give a token of printable ASCII characters without spaces"
            ),
        ),
        (
            '[{"url": "http://a", "token": 5}]',
            (
                "[0].token: it is not a text; give a token of "
                "printable ASCII characters without spaces"
            ),
        ),
    ],
)
def test_a_malformed_list_of_orchestrators_is_shown_at_its_place(text: str, fault: str) -> None:
    found = problems(WorkerSettings, {"ORCHESTRATORS_CONFIG": text})
    assert found == [f"ORCHESTRATORS_CONFIG: {fault}; {LIST}"]


# --- malformed values ---------------------------------------------------------

TOKEN = "give a token of printable ASCII characters without spaces"
PORT = "give a whole number from 0 to 65535"
BODY = "give bytes, or a whole number of KiB, MiB or GiB, from 1KiB to 1GiB"
LEASE = "give a number of seconds from 3 to 3600"
HOST = "give a host name or an IP address, without a port"
A_PATH = "give the path of a file that can be read"
SWITCH = "give true or false"
ZONE = "give a name such as UTC or Europe/Berlin"
STORAGE = (
    "give memory:, sqlite:PATH, redis://HOST:PORT, redis+sentinel://HOST:PORT,.../SERVICE or "
    "redis+cluster://HOST:PORT,...; rediss for TLS"
)
ONE_SERVER = "give redis://[USER:PASSWORD@]HOST[:PORT][/DB]"
ONE_TLS_SERVER = ONE_SERVER.replace("redis", "rediss")
NOT_ENCODED = "has a / ? # or @ in its user or password, which must be percent-encoded"


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("API_PORT", "", f"it is empty; {PORT}"),
        ("API_PORT", " ", f"it is empty; {PORT}"),
        ("API_PORT", "http", f"'http' is not a whole number; {PORT}"),
        ("API_PORT", "80.0", f"'80.0' is not a whole number; {PORT}"),
        ("API_PORT", "8_0", f"'8_0' is not a whole number; {PORT}"),
        ("API_PORT", "\uff18\uff10", f"'\uff18\uff10' is not a whole number; {PORT}"),
        ("API_PORT", " 80", f"' 80' is not a whole number; {PORT}"),
        ("API_PORT", "-1", f"-1 is out of range; {PORT}"),
        ("API_PORT", "65536", f"65536 is out of range; {PORT}"),
        ("API_PORT", "8\n0", f"it holds a control character; {PORT}"),
        ("API_PORT", "9" * 5000, f"'{'9' * 79}... is not a whole number; {PORT}"),
        ("LEASE_SECONDS", "2.9", f"2.9 is out of range; {LEASE}"),
        ("LEASE_SECONDS", "-30", f"-30.0 is out of range; {LEASE}"),
        ("LEASE_SECONDS", "nan", f"'nan' is not a number; {LEASE}"),
        ("LEASE_SECONDS", "inf", f"'inf' is not a number; {LEASE}"),
        ("LEASE_SECONDS", "1e999", f"inf is out of range; {LEASE}"),
        ("LEASE_SECONDS", "30s", f"'30s' is not a number; {LEASE}"),
        (
            "WORKER_POLL_TIMEOUT_SECONDS",
            "31",
            "31.0 is out of range; give a number of seconds from 1 to 30",
        ),
        ("MAX_BODY_BYTES", "1MB", f"'1MB' is not a size; {BODY}"),
        ("MAX_BODY_BYTES", "1.5MiB", f"'1.5MiB' is not a size; {BODY}"),
        ("MAX_BODY_BYTES", "2GiB", f"'2GiB' is out of range; {BODY}"),
        ("MAX_BODY_BYTES", "-1MiB", f"'-1MiB' is out of range; {BODY}"),
        ("MAX_BODY_BYTES", "0", f"'0' is out of range; {BODY}"),
        ("MAX_LOST_ATTEMPTS", "0", "0 is out of range; give a whole number from 1 to 1000"),
        ("API_HOST", "0.0.0.0:80", f"'0.0.0.0:80' is not a host; {HOST}"),
        ("API_HOST", "http://a", f"'http://a' is not a host; {HOST}"),
        ("API_HOST", "[localhost]", f"'[localhost]' is not a host; {HOST}"),
        ("API_HOST", "a b", f"'a b' is not a host; {HOST}"),
        (
            "LOG_LEVEL",
            "loud",
            ("'loud' is not known; give one of DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        ),
        ("BLUEPRINTS_DIR", "", "it is empty; give a text"),
        ("CLIENT_TOKEN", "", f"it is empty; {TOKEN}"),
        ("CLIENT_TOKEN", "hunter2\n", f"it holds a control character; {TOKEN}"),
        ("CLIENT_TOKEN", "hunter2 ", f"it holds a space or a character outside ASCII; {TOKEN}"),
        (
            "GLOBAL_WORKER_TOKEN",
            "hünter2",
            f"it holds a space or a character outside ASCII; {TOKEN}",
        ),
        (
            "WORKERS_CONFIG_PATH",
            "/no/such",
            f"'/no/such' cannot be read (No such file or directory); {A_PATH}",
        ),
        ("CLIENTS_CONFIG_PATH", "/", f"'/' is a folder; {A_PATH}"),
        ("TLS_CA_PATH", "", f"it is empty; {A_PATH}"),
        ("TZ", "Europe/Atlantis", f"'Europe/Atlantis' is not a time zone that is known; {ZONE}"),
        ("TZ", "../../etc/passwd", f"'../../etc/passwd' is not a time zone that is known; {ZONE}"),
        (
            "WORKER_AUTH_MODE",
            "mtls",
            "'mtls' is not known; give one of mixed, mtls-only, token-only",
        ),
        ("WORKER_SIGNING", "on", "'on' is not known; give one of required, optional, off"),
        (
            "ORCHESTRATOR_SECRET_KEY",
            "hunter2 ",
            f"it holds a space or a character outside ASCII; {TOKEN}",
        ),
        (
            "ACCESS_TOKEN_SECONDS",
            "9",
            "9.0 is out of range; give a number of seconds from 10 to 86400",
        ),
        ("TLS_ENABLED", "ja", f"'ja' is neither true nor false; {SWITCH}"),
        ("TLS_REQUIRE_CLIENT_CERT", "", f"it is empty; {SWITCH}"),
        ("RATE_LIMITING_ENABLED", "2", f"'2' is neither true nor false; {SWITCH}"),
        (
            "RATE_LIMIT_PERIOD",
            "0.9",
            "0.9 is out of range; give a number of seconds from 1 to 3600",
        ),
        (
            "RATE_LIMIT_LIMIT",
            "0",
            "0 is out of range; give a whole number from 1 to 1000000000",
        ),
        (
            "STORAGE_URL",
            "postgres://u:hunter2@h/d",
            f"'postgres://***@h/d' is not a storage that is known; {STORAGE}",
        ),
        ("STORAGE_URL", "memory", f"'memory' is not a storage that is known; {STORAGE}"),
        ("STORAGE_URL", "sqlite:", f"'sqlite:' has no path, or slashes before it; {STORAGE}"),
        (
            "STORAGE_URL",
            "sqlite:///a.db",
            f"'sqlite:///a.db' has no path, or slashes before it; {STORAGE}",
        ),
        ("STORAGE_URL", "redis://", f"'redis://' has no host; {ONE_SERVER}"),
        (
            "STORAGE_URL",
            "rediss://:hunter2@h:port",
            f"'rediss://***@h:port' has a malformed host or port; {ONE_TLS_SERVER}",
        ),
        (
            "STORAGE_URL",
            "redis://:hun#ter2@h",
            f"'redis://***@h' {NOT_ENCODED}; {ONE_SERVER}",
        ),
    ],
)
def test_a_malformed_value_of_the_orchestrator_is_named_shown_and_remedied(
    name: str, text: str, fault: str
) -> None:
    found = problems(OrchestratorSettings, {name: text})
    assert found == [f"{name}: {fault}"]
    assert HIDDEN not in str(found)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("ORCHESTRATOR_URL", "", f"it is empty; {ADDRESS}"),
        (
            "ORCHESTRATOR_URL",
            "localhost:8080",
            f"'localhost:8080' does not begin with http:// or https://; {ADDRESS}",
        ),
        (
            "ORCHESTRATOR_URL",
            "ftp://a",
            f"'ftp://a' does not begin with http:// or https://; {ADDRESS}",
        ),
        ("ORCHESTRATOR_URL", "http://", f"'http://' has no host; {ADDRESS}"),
        ("ORCHESTRATOR_URL", "http://:80", f"'http://:80' has no host; {ADDRESS}"),
        ("ORCHESTRATOR_URL", "http://a b", f"'http://a b' holds a space; {ADDRESS}"),
        ("ORCHESTRATOR_URL", "http://a%", f"'http://a%' has a malformed host; {ADDRESS}"),
        (
            "ORCHESTRATOR_URL",
            "http://[::1",
            f"'http://[::1' has a malformed host or port; {ADDRESS}",
        ),
        (
            "ORCHESTRATOR_URL",
            "http://a:port",
            f"'http://a:port' has a malformed host or port; {ADDRESS}",
        ),
        (
            "ORCHESTRATOR_URL",
            "http://a:70000",
            f"'http://a:70000' has a malformed host or port; {ADDRESS}",
        ),
        ("ORCHESTRATOR_URL", "http://a:0", f"'http://a:0' has a malformed port; {ADDRESS}"),
        ("ORCHESTRATOR_URL", "http://a:", f"'http://a:' has a malformed port; {ADDRESS}"),
        (
            "ORCHESTRATOR_URL",
            "http://a?token=hunter2",
            f"'http://a?***' has a query or a fragment; {ADDRESS}",
        ),
        ("ORCHESTRATOR_URL", "http://a#b", f"'http://a?***' has a query or a fragment; {ADDRESS}"),
        (
            "ORCHESTRATOR_URL",
            "http://me:hunter2@a",
            f"'http://***@a' holds credentials, or an @ that looks like them; {ADDRESS}",
        ),
        (
            "WORKER_ID",
            "gpu 1",
            "'gpu 1' is not a worker id; give 1 to 128 letters, digits, `_` or `-`",
        ),
        (
            "WORKER_ID",
            "w" * 129,
            (f"'{'w' * 79}... is not a worker id; give 1 to 128 letters, digits, `_` or `-`"),
        ),
        (
            "WORKER_PORT",
            "tcp://10.0.0.1:80",
            ("'tcp://10.0.0.1:80' is not a whole number; give a port from 1 to 65535, or \"off\""),
        ),
        ("WORKER_SPOOL_DIR", "", "it is empty; give the path of a folder"),
        ("MAX_CONCURRENT_TASKS", "0", "0 is out of range; give a whole number from 1 to 10000"),
        ("WORKER_TOKEN", "\t", f"it is empty; {TOKEN}"),
    ],
)
def test_a_malformed_value_of_the_worker_is_named_shown_and_remedied(
    name: str, text: str, fault: str
) -> None:
    found = problems(WorkerSettings, {name: text})
    assert found == [f"{name}: {fault}"]
    assert HIDDEN not in str(found)


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("api_port = true", f"True is not a whole number; {PORT}"),
        ("api_port = 80.0", f"80.0 is not a whole number; {PORT}"),
        ("api_port = 0x" + "f" * 5000, f"a number that long is out of range; {PORT}"),
        ("api_port = []", f"a value of type list is not a whole number; {PORT}"),
        ("lease_seconds = nan", f"nan is out of range; {LEASE}"),
        ("lease_seconds = inf", f"inf is out of range; {LEASE}"),
        ("lease_seconds = false", f"False is not a number; {LEASE}"),
        ("max_body_bytes = 1e6", f"1000000.0 is not a size; {BODY}"),
        ("client_token = 123456", f"it is not a text; {TOKEN}"),
        ("api_host = 1979-05-27", f"a value of type date is not a text; {HOST}"),
    ],
)
def test_a_value_of_the_wrong_toml_type_is_named_with_its_line(
    statement: str, fault: str, tmp_path: Path
) -> None:
    path = write(tmp_path, f"\n{statement}\n")
    key = statement.partition(" ")[0]
    assert problems(OrchestratorSettings, file=path) == [f"{path} line 2, {key}: {fault}"]


def test_all_problems_of_all_sources_are_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "api_port = 0.5\n\n[orchestrator]\nlease = 4\nmax_lost_attempts = 0\n")
    found = problems(
        OrchestratorSettings, {"API_PORT": "x", "LOG_LEVEL": ""}, path, host="a b", prot=1
    )
    assert found == [
        "argument 'prot': there is no such setting of this program; did you mean 'port'?",
        f"{path} line 4: unknown key 'lease' in [orchestrator]; remove it",
        f"--host: 'a b' is not a host; {HOST}",
        f"API_PORT: 'x' is not a whole number; {PORT}",
        f"{path} line 1, api_port: 0.5 is not a whole number; {PORT}",
        f"{path} line 5, max_lost_attempts: 0 is out of range; give a whole number from 1 to 1000",
        "LOG_LEVEL: it is empty; give one of DEBUG, INFO, WARNING, ERROR, CRITICAL",
    ]


# --- the file -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("api_prot = 1", " line 1: unknown key 'api_prot'; did you mean 'api_port'?"),
        ("API_PORT = 1", " line 1: unknown key 'API_PORT'; did you mean 'api_port'?"),
        ("xyzzy = 1", " line 1: unknown key 'xyzzy'; remove it"),
        ("health_port = 1", " line 1: unknown key 'health_port'; did you mean 'worker_port'?"),
        ("\n[workers]\na = 1", " line 2: unknown key 'workers'; did you mean 'worker'?"),
        (
            "[worker]\napi_port = 1",
            " line 2: unknown key 'api_port' in [worker]; it belongs in [orchestrator]",
        ),
        ("worker = 1", " line 1: 'worker' is not a table; write it as [worker]"),
        ("a = \n", ": not TOML: Invalid value (at line 1, column 5); correct that place"),
        ("a = " + "9" * 5000, ": nested too deep, or a huge number; remove it"),
    ],
)
def test_a_malformed_file_is_named_with_the_line(text: str, fault: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    assert problems(OrchestratorSettings, file=path) == [f"{path}{fault}"]


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    remedy = "give the path of a TOML file, or unset AVTOMATIKA_CONFIG"
    missing = tmp_path / "none.toml"
    assert problems(WorkerSettings, file=missing) == [
        f"'{missing}': cannot be read (No such file or directory); {remedy}"
    ]
    assert problems(WorkerSettings, file=tmp_path) == [
        f"'{tmp_path}': cannot be read (Is a directory); {remedy}"
    ]
    assert problems(WorkerSettings, file=Path("\0")) == [
        f"'\\x00': cannot be read (not a path); {remedy}"
    ]
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"\n# \xe9\n")
    assert problems(WorkerSettings, file=latin) == [f"{latin} line 2: not UTF-8; save it as UTF-8"]
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * (1024**2 + 1))
    assert problems(WorkerSettings, file=large) == [
        f"{large}: larger than 1MiB; remove what does not belong there"
    ]


def test_an_empty_name_of_the_file_is_a_mistake() -> None:
    assert problems(WorkerSettings, {"AVTOMATIKA_CONFIG": ""}) == [
        "AVTOMATIKA_CONFIG: it is empty; give the path of a TOML file, or unset it"
    ]


def test_unknown_variables_are_ignored_and_slips_in_ours_are_told() -> None:
    environ = {
        "API_PROT": "1",
        "AVTOMATIKA_API_PORT": "1",
        "AVTOMATIKA_COMFIG": "x",
        "AVTOMATIKA_WEATHER": "fine",
        "AVTOMATIKA_WORKER_TOKEN": "t",
    }
    loaded = load(OrchestratorSettings, environ)
    assert loaded.settings == OrchestratorSettings()
    assert loaded.warnings == (
        "AVTOMATIKA_API_PORT is not a setting and is ignored; did you mean 'API_PORT'?",
        "AVTOMATIKA_COMFIG is not a setting and is ignored; did you mean 'AVTOMATIKA_CONFIG'?",
    )


# --- secrets ------------------------------------------------------------------

SECRETS = [
    (kind, name)
    for kind in (OrchestratorSettings, WorkerSettings)
    for name in known_variables(kind)
    if name.endswith(("_TOKEN", "_KEY"))
]
each_secret = pytest.mark.parametrize(("kind", "name"), SECRETS)


@each_secret
def test_every_secret_may_be_kept_in_a_file(kind: type[Any], name: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"  {HIDDEN}\n")
    loaded = load(kind, {f"{name}_FILE": str(path)})
    (field,) = (it.name for it in attrs.fields(kind) if name in setting_of(it).names)
    assert getattr(loaded.settings, field).reveal() == HIDDEN
    assert loaded.sources[field] == f"environment {name}_FILE"
    toml = write(tmp_path, f"{name.lower()}_file = '{path}'\n")
    loaded = load(kind, file=toml)
    assert getattr(loaded.settings, field).reveal() == HIDDEN
    assert loaded.sources[field] == f"{toml} line 1"


@each_secret
def test_a_secret_given_as_text_and_as_file_is_a_mistake(
    kind: type[Any], name: str, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.write_text(HIDDEN)
    environ = {name: HIDDEN, f"{name}_FILE": str(path)}
    assert problems(kind, environ) == [f"{name} and {name}_FILE are both set; keep one"]
    key = name.lower()
    toml = write(tmp_path, f"{key} = '{HIDDEN}'\n{key}_file = '{path}'\n")
    assert problems(kind, file=toml) == [
        f"{toml} line 2: {key} and {key}_file are both set; keep one"
    ]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "of the content of {}: it is empty"),
        (b"hunter2\nhunter2", "of the content of {}: it holds a control character"),
        (b"\xff", "of the content of {}: it holds a space or a character outside ASCII"),
        (b"x" * 70_000, "{} is larger than 64KiB"),
        (None, "{} cannot be read (No such file or directory)"),
    ],
)
def test_a_file_without_a_usable_secret_is_named(
    content: bytes | None, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("token").write_bytes(content)
    assert problems(OrchestratorSettings, {"CLIENT_TOKEN_FILE": "token"}) == [
        (
            f"CLIENT_TOKEN_FILE: {fault.format(repr('token'))}; "
            "give the path of a file that holds the token"
        )
    ]


def test_secrets_are_shown_by_reveal_only() -> None:
    secret = Secret(HIDDEN)
    assert secret.reveal() == HIDDEN
    assert HIDDEN not in f"{secret} {secret!r} {[secret]}"
    assert secret == Secret(HIDDEN)
    assert secret != Secret("other")
    assert secret != HIDDEN
    assert len({secret, Secret(HIDDEN)}) == 1


def test_settings_never_show_their_secrets() -> None:
    orchestrator = OrchestratorSettings(
        client_token=Secret(HIDDEN),
        worker_token=Secret(HIDDEN),
        storage_url=f"redis://:{HIDDEN}@db/0",
    )
    worker = WorkerSettings(token=Secret(HIDDEN))
    shown = f"{orchestrator} {orchestrator!r} {worker} {worker!r}"
    assert HIDDEN not in shown
    assert "redis://***@db/0" in shown
    assert HIDDEN not in str(attrs.asdict(worker))


@pytest.mark.parametrize(
    ("address", "safe"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://u:pa@ss/w@h", "redis://***@h"),
        ("redis://h?password=x#y", "redis://h?***"),
        ("u:p@h", "***@h"),
        ("sqlite:a@b.db", "sqlite:a@b.db"),
        ("sqlite://u:p@h", "sqlite://***@h"),
    ],
)
def test_addresses_are_shown_without_passwords(address: str, safe: str) -> None:
    assert masked(address) == safe


# --- check, loopback, docs ----------------------------------------------------


def test_a_report_lists_every_setting_with_its_value_and_source(tmp_path: Path) -> None:
    path = write(tmp_path, "lease_seconds = 5\n")
    environ = {
        "CLIENT_TOKEN": HIDDEN,
        "STORAGE_URL": f"redis://:{HIDDEN}@db",
        "API_PORT": "x",
        "AVTOMATIKA_COMFIG": "x",
    }
    report = check(OrchestratorSettings, environ=environ, file=path, overrides={"host": "::1"})
    entries = {entry.field: (entry.name, entry.value, entry.source) for entry in report.entries}
    assert list(entries) == [field.name for field in attrs.fields(OrchestratorSettings)]
    assert entries["host"] == ("API_HOST", "::1", "argument --host")
    assert entries["port"] == ("API_PORT", "(malformed)", "environment API_PORT")
    assert entries["lease_seconds"] == ("LEASE_SECONDS", "5.0", f"{path} line 1")
    assert entries["client_token"] == ("CLIENT_TOKEN", "***", "environment CLIENT_TOKEN")
    assert entries["storage_url"] == ("STORAGE_URL", "redis://***@db", "environment STORAGE_URL")
    assert entries["blueprints"] == ("BLUEPRINTS_DIR", "none", "default")
    assert report.problems == (f"API_PORT: 'x' is not a whole number; {PORT}",)
    assert len(report.warnings) == 1
    assert HIDDEN not in str(report)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("", False),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
    ],
)
def test_only_this_machine_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_the_reference_page_is_fresh() -> None:
    page = (ROOT / "docs" / "reference" / "settings.md").read_text()
    command = "python -m avtomatika_trio._config > docs/reference/settings.md"
    assert page == settings_markdown(), f"run: {command}"


def test_the_reference_page_names_every_setting() -> None:
    page = settings_markdown()
    for kind in (OrchestratorSettings, WorkerSettings):
        for field in attrs.fields(kind):
            for name in setting_of(field).names:
                assert f"`{name}`" in page


def test_importing_the_settings_stays_light() -> None:
    probe = (
        "import sys, avtomatika_trio._config as _;"
        "sys.exit(bool({'rich', 'httpx', 'quart', 'trio', 'sqlite3'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", probe], check=True)


# --- whatever is given --------------------------------------------------------


def outcome(
    kind: type[Any], environ: Mapping[str, str], file: Path | None = None
) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Sources or problems, whichever loading ends in; any other error is a bug."""
    try:
        return load(kind, environ, file).sources, ()
    except ConfigError as error:
        return {}, error.problems


texts = st.one_of(
    st.text(),
    st.from_regex(r"(https?|rediss?|sqlite)://[^\s]*", fullmatch=True),
    st.from_regex(r"[+-]?[0-9.]+(e[0-9]+|MiB)?", fullmatch=True),
    st.recursive(
        st.none() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["url", "token"]), inner),
    ).map(json.dumps),
)


@pytest.mark.parametrize("kind", [OrchestratorSettings, WorkerSettings])
@given(data=st.data())
@hypothesis_settings(max_examples=150)
def test_any_values_load_or_are_a_config_error(kind: type[Any], data: st.DataObject) -> None:
    names = ("AVTOMATIKA_CONFIG", *known_variables(kind))
    environ = data.draw(st.dictionaries(st.sampled_from(names), texts))
    sources, found = outcome(kind, environ)
    assert bool(sources) is not bool(found)
    assert "\n" not in "".join(found)


@given(token=st.text())
@hypothesis_settings(max_examples=100)
def test_a_complaint_about_a_token_does_not_depend_on_it(token: str) -> None:
    (found,) = problems(OrchestratorSettings, {"CLIENT_TOKEN": f"secret {token}"})
    assert found in {
        f"CLIENT_TOKEN: it holds a control character; {TOKEN}",
        f"CLIENT_TOKEN: it holds a space or a character outside ASCII; {TOKEN}",
    }


@pytest.fixture(scope="module")
def settings_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any") / "avtomatika.toml"


@given(content=st.binary())
@hypothesis_settings(max_examples=100)
def test_any_file_loads_or_is_a_config_error(settings_path: Path, content: bytes) -> None:
    settings_path.write_bytes(content)
    sources, found = outcome(WorkerSettings, {}, settings_path)
    assert bool(sources) is not bool(found)


@pytest.mark.parametrize("mode", ["failover", "ROUND_ROBIN", "Waterfall"])
def test_a_mode_is_one_of_three_in_any_case(mode: str) -> None:
    found = load(WorkerSettings, {"MULTI_ORCHESTRATOR_MODE": mode}).settings
    assert found.mode == mode.upper()


@pytest.mark.parametrize(
    ("written", "mode"), [("round-robin", "ROUND_ROBIN"), ("PRIORITY", "WATERFALL")]
)
def test_a_mode_may_have_a_hyphen_and_its_older_name(written: str, mode: str) -> None:
    assert load(WorkerSettings, {"MULTI_ORCHESTRATOR_MODE": written}).settings.mode == mode


def test_another_mode_stops_the_start() -> None:
    assert problems(WorkerSettings, {"MULTI_ORCHESTRATOR_MODE": "ALL"}) == [
        "MULTI_ORCHESTRATOR_MODE: 'ALL' is not known; give one of FAILOVER, ROUND_ROBIN, WATERFALL"
    ]


# --- S3 -----------------------------------------------------------------------

FULL = {
    "S3_ENDPOINT_URL": "http://localhost:9000",
    "S3_ACCESS_KEY": "minioadmin",
    "S3_SECRET_KEY": "minioadmin",
    "S3_BUCKET": "worker-results",
}
AWS = {
    "AWS_ACCESS_KEY_ID": "aws-id",
    "AWS_SECRET_ACCESS_KEY": "aws-key",
    "AWS_SESSION_TOKEN": "aws-token",
    "AWS_REGION": "eu-west-1",
    "AWS_ENDPOINT_URL": "https://s3.example",
}
both_programs = pytest.mark.parametrize("kind", [OrchestratorSettings, WorkerSettings])


@both_programs
def test_the_settings_of_the_page_are_enough_for_s3(kind: type[Any]) -> None:
    assert load(kind, FULL).settings.s3() == S3Access(
        endpoint="http://localhost:9000",
        access_key=Secret("minioadmin"),
        secret_key=Secret("minioadmin"),
        session_token=None,
        region="us-east-1",
        bucket="worker-results",
    )


@both_programs
def test_variables_of_other_programs_do_not_turn_s3_on(kind: type[Any]) -> None:
    assert load(kind, AWS).settings.s3() is None


@both_programs
def test_what_s3_needs_may_come_from_the_variables_of_aws(kind: type[Any]) -> None:
    assert load(kind, {**AWS, "S3_DEFAULT_BUCKET": "worker-results"}).settings.s3() == S3Access(
        endpoint="https://s3.example",
        access_key=Secret("aws-id"),
        secret_key=Secret("aws-key"),
        session_token=Secret("aws-token"),
        region="eu-west-1",
        bucket="worker-results",
    )


def test_a_token_of_one_source_does_not_go_with_a_key_of_the_other() -> None:
    found = load(WorkerSettings, {**AWS, **FULL}).settings.s3()
    assert (found.access_key, found.session_token) == (Secret("minioadmin"), None)


@pytest.mark.parametrize("missing", ["S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_BUCKET"])
@both_programs
def test_half_of_s3_names_what_is_missing(kind: type[Any], missing: str) -> None:
    environ = {name: value for name, value in FULL.items() if name != missing}
    with pytest.raises(ConfigError) as caught:
        load(kind, environ).settings.s3()
    (problem,) = caught.value.problems
    given = ", ".join(environ)
    assert problem.startswith(f"S3 is used since {given} are set, but {missing} is missing: set it")
    report = check(kind, environ=environ, file=None, overrides={})
    assert report.problems == (problem,)


def test_the_hash_that_the_protocol_has_for_a_place_of_files() -> None:
    environ = {
        "S3_ENDPOINT_URL": "http://127.0.0.1:17070",
        "S3_ACCESS_KEY": "ak",
        "S3_SECRET_KEY": "sk",
        "S3_BUCKET": "bkt",
    }
    found = load(WorkerSettings, environ).settings.s3()
    # The example of the protocol page.
    assert found.config_hash == "e9783013228068f0"
    assert found.place == "bucket bkt at 127.0.0.1:17070"
