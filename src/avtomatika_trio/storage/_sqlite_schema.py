"""The tables of the SQLite storage, and opening a file that has them.

What is searched for has a column; the record itself is JSON in `body`.
"""

import sqlite3
from pathlib import Path

from avtomatika_trio.errors import StorageUnavailable

#: Kept in `PRAGMA user_version`; grows with every change of the tables.
SCHEMA_VERSION = 5

#: `PRAGMA application_id`: "AvTr", so that other SQLite files are recognised as not ours.
APPLICATION_ID = 0x41765472

_TABLES = """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    client TEXT NOT NULL,
    blueprint TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at REAL NOT NULL,
    ready INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX jobs_by_time ON jobs (created_at, id);
CREATE INDEX jobs_by_status ON jobs (status, created_at, id);
CREATE INDEX jobs_by_client ON jobs (client, created_at, id);
CREATE INDEX jobs_ready ON jobs (created_at, id) WHERE ready;

CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    job_id TEXT NOT NULL,
    dispatch INTEGER NOT NULL,
    branch INTEGER NOT NULL,
    skill TEXT NOT NULL,
    lane TEXT NOT NULL,
    priority REAL NOT NULL,
    created_at REAL NOT NULL,
    status TEXT NOT NULL,
    open INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX tasks_of_job ON tasks (job_id, dispatch, branch);
CREATE INDEX tasks_open ON tasks (job_id, dispatch, branch) WHERE open;
CREATE INDEX tasks_queued ON tasks (skill, lane, priority DESC, created_at, job_id, branch)
    WHERE status='queued';

CREATE TABLE attempts (
    wire_id TEXT PRIMARY KEY,
    job_id TEXT NOT NULL,
    instance TEXT NOT NULL,
    leased INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX attempts_of_job ON attempts (job_id);
CREATE INDEX attempts_leased ON attempts (instance) WHERE leased;

CREATE TABLE fan_outs (
    job_id TEXT NOT NULL,
    dispatch INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (job_id, dispatch)
) WITHOUT ROWID;

CREATE TABLE instances (
    id TEXT PRIMARY KEY,
    due_at REAL,
    body BLOB NOT NULL
);
CREATE INDEX instances_due ON instances (due_at, id) WHERE due_at IS NOT NULL;

CREATE TABLE timers (
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    due_at REAL NOT NULL,
    PRIMARY KEY (kind, subject)
) WITHOUT ROWID;

CREATE TABLE history (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX history_of_job ON history (job_id, number);

CREATE TABLE progress (
    job_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (job_id, task_id)
) WITHOUT ROWID;

CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""

#: What version 2 has beyond version 1.
_TABLES_OF_2 = """
CREATE TABLE usages (
    client TEXT NOT NULL,
    month TEXT NOT NULL,
    jobs INTEGER NOT NULL,
    PRIMARY KEY (client, month)
) WITHOUT ROWID;

CREATE TABLE issued_tokens (
    hash TEXT PRIMARY KEY,
    expires_at REAL NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX issued_tokens_by_end ON issued_tokens (expires_at, hash);

CREATE TABLE audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    body BLOB NOT NULL
);
"""


#: What version 3 has beyond version 2; the index that it drops is of both before.
_TABLES_OF_3 = """
DROP INDEX IF EXISTS timers_due;
CREATE INDEX timers_due ON timers (due_at, kind, subject) WHERE kind!='files';
CREATE INDEX files_due ON timers (due_at, subject) WHERE kind='files';
"""

#: Likewise; its index serves the timers of all kinds that have none of their own.
_TABLES_OF_4 = """
DROP INDEX timers_due;
CREATE INDEX timers_due ON timers (due_at, kind, subject) WHERE kind!='files' AND kind!='forget';
CREATE INDEX forgets_due ON timers (due_at, subject) WHERE kind='forget';
"""

#: What version 5 has beyond version 4.  Jobs of before have no labels.
_TABLES_OF_5 = """
CREATE TABLE submissions (
    id TEXT PRIMARY KEY,
    expires_at REAL NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX submissions_by_end ON submissions (expires_at, id);

CREATE TABLE job_labels (
    job_id TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    created_at REAL NOT NULL,
    PRIMARY KEY (job_id, name)
) WITHOUT ROWID;
CREATE INDEX jobs_by_label ON job_labels (name, value, created_at, job_id);
"""

#: For each version, what makes the next one of it.
_STEPS = (_TABLES, _TABLES_OF_2, _TABLES_OF_3, _TABLES_OF_4, _TABLES_OF_5)


def connect(path: Path) -> sqlite3.Connection:
    """A connection for one thread; transactions are begun and ended by hand."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=256, timeout=30
    )
    try:
        for pragma in (
            "synchronous=FULL",
            # 32 MiB of pages: the hot part of the indexes stays in memory.
            "cache_size=-32768",
            "temp_store=MEMORY",
            # The log is folded back every 4,000 pages (16 MiB), then cut to 64 MiB at most.
            "wal_autocheckpoint=4000",
            "journal_size_limit=67108864",
        ):
            connection.execute(f"PRAGMA {pragma}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def prepare(connection: sqlite3.Connection, path: Path, cluster_id: str) -> str:
    """Make the tables in a new file, or check and complete those of an old one.

    A file that is not ours is left as it is.

    Returns:
        The cluster id of the file.

    Raises:
        StorageUnavailable: the file is another program's, or of a newer version of this one,
            or where SQLite cannot keep a write-ahead log.
    """
    version = _version(connection, path)
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    if mode not in ("wal", "memory"):
        raise StorageUnavailable(
            f"{path}: SQLite cannot keep a write-ahead log there (journal mode {mode});"
            " keep the file on a local disk"
        )
    if version < SCHEMA_VERSION:
        connection.executescript(f"BEGIN IMMEDIATE; {' '.join(_STEPS[version:])}")
        if version == 0:
            connection.execute("INSERT INTO meta VALUES ('cluster_id', ?)", (cluster_id,))
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        connection.execute("COMMIT")
    stored = connection.execute("SELECT value FROM meta WHERE key='cluster_id'").fetchone()
    return str(stored[0])


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the tables, 0 if there are none yet."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != (0 if version == 0 else APPLICATION_ID) or (version == 0 and tables):
        raise StorageUnavailable(
            f"{path} is a SQLite database of another program; name another file"
        )
    if version > SCHEMA_VERSION:
        raise StorageUnavailable(
            f"{path} was written by a newer version (its schema is {version}, this program knows"
            f" {SCHEMA_VERSION}); upgrade avtomatika-trio"
        )
    return version
