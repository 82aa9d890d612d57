"""The settings of files too big for a job, which both programs have."""

# `setting` makes an attrs field; ruff knows only `attrs.field` itself.
# ruff: noqa: RUF009

import hashlib
from urllib.parse import urlsplit

import attrs

from avtomatika_trio._config._addresses import URL
from avtomatika_trio._config._kinds import BUCKET, SECRET, TEXT, Secret, whole
from avtomatika_trio._config._setting import setting
from avtomatika_trio.errors import ConfigError

_FALLBACK = "Used where the `S3_*` setting of that meaning is not given."


@attrs.frozen(kw_only=True)
class S3Access:
    """Where the bucket is, and who asks for it: complete."""

    endpoint: str | None
    """None is AWS."""
    access_key: Secret
    secret_key: Secret
    session_token: Secret | None
    region: str
    bucket: str

    @property
    def place(self) -> str:
        """The bucket and the server, for people."""
        where = "on AWS" if self.endpoint is None else f"at {urlsplit(self.endpoint).netloc}"
        return f"bucket {self.bucket} {where}"

    @property
    def config_hash(self) -> str | None:
        """What the protocol calls `s3_config_hash`: the same for who uses the same bucket."""
        if self.endpoint is None:
            return None
        text = f"{self.endpoint}|{self.access_key.reveal()}|{self.bucket}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@attrs.frozen(kw_only=True)
class FileSettings:
    """Where files are kept."""

    s3_endpoint: str | None = setting(
        URL,
        "S3_ENDPOINT_URL",
        default=None,
        doc="The S3 server; without one it is AWS.",
    )
    s3_access_key: Secret | None = setting(
        SECRET,
        "S3_ACCESS_KEY",
        default=None,
        doc="The id of the key for it.",
    )
    s3_secret_key: Secret | None = setting(
        SECRET,
        "S3_SECRET_KEY",
        default=None,
        doc="The key for it.",
    )
    s3_session_token: Secret | None = setting(
        SECRET,
        "S3_SESSION_TOKEN",
        default=None,
        doc="What goes with a temporary key.",
    )
    s3_region: str | None = setting(
        TEXT,
        "S3_REGION",
        default=None,
        doc="The region of the bucket; `us-east-1` if nothing tells it.",
    )
    s3_bucket: str | None = setting(
        BUCKET,
        "S3_DEFAULT_BUCKET",
        "S3_BUCKET",
        default=None,
        doc="The bucket that files go to. As soon as one of these settings is given, all that S3 "
        "needs must be: the bucket and both keys.",
    )
    s3_max_concurrency: int = setting(
        whole(1, 1000),
        "S3_MAX_CONCURRENCY",
        default=10,
        doc="How many requests to S3 are under way at a time, each in a thread.",
    )
    aws_endpoint: str | None = setting(
        URL,
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL",
        default=None,
        doc=_FALLBACK,
    )
    aws_access_key: Secret | None = setting(
        SECRET, "AWS_ACCESS_KEY_ID", default=None, doc=_FALLBACK
    )
    aws_secret_key: Secret | None = setting(
        SECRET, "AWS_SECRET_ACCESS_KEY", default=None, doc=_FALLBACK
    )
    aws_session_token: Secret | None = setting(
        SECRET, "AWS_SESSION_TOKEN", default=None, doc=_FALLBACK
    )
    aws_region: str | None = setting(
        TEXT, "AWS_REGION", "AWS_DEFAULT_REGION", default=None, doc=_FALLBACK
    )

    def s3(self) -> S3Access | None:
        """What S3 needs; None if it is not used.

        Any setting of its own turns it on; the `AWS_*` ones, which may be there for other
        programs, do not.

        Raises:
            ConfigError: it is used, and something is missing.
        """
        own = {
            "S3_ENDPOINT_URL": self.s3_endpoint,
            "S3_ACCESS_KEY": self.s3_access_key,
            "S3_SECRET_KEY": self.s3_secret_key,
            "S3_SESSION_TOKEN": self.s3_session_token,
            "S3_REGION": self.s3_region,
            "S3_BUCKET": self.s3_bucket,
        }
        given = [name for name, value in own.items() if value is not None]
        if not given:
            return None
        key, secret, token = self._keys()
        missing = []
        if self.s3_bucket is None:
            missing.append("S3_BUCKET is missing: set it to the bucket that files go to")
        if key is None:
            missing.append("S3_ACCESS_KEY is missing: set it (or AWS_ACCESS_KEY_ID)")
        if secret is None:
            missing.append("S3_SECRET_KEY is missing: set it (or AWS_SECRET_ACCESS_KEY)")
        if self.s3_bucket is None or key is None or secret is None:
            why = f"S3 is used since {', '.join(given)} {'is' if len(given) == 1 else 'are'} set"
            raise ConfigError(tuple(f"{why}, but {fault}" for fault in missing))
        return S3Access(
            endpoint=self.s3_endpoint or self.aws_endpoint,
            access_key=key,
            secret_key=secret,
            session_token=token,
            region=self.s3_region or self.aws_region or "us-east-1",
            bucket=self.s3_bucket,
        )

    def _keys(self) -> tuple[Secret | None, Secret | None, Secret | None]:
        """Key id, key and token of one source: those of two sources do not fit together."""
        if self.s3_access_key is None and self.s3_secret_key is None:
            token = self.s3_session_token or self.aws_session_token
            return self.aws_access_key, self.aws_secret_key, token
        return self.s3_access_key, self.s3_secret_key, self.s3_session_token
