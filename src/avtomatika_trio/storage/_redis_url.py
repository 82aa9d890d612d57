"""Where Redis or Valkey is, as the URL of a storage tells it; see `_config._redis_urls`.

The settings check such a URL at the start with the same words, naming their variable.
"""

from avtomatika_trio._config._kinds import Malformed
from avtomatika_trio._config._redis_urls import Place, RedisAddress, read_redis_url
from avtomatika_trio.errors import ConfigError

__all__ = ["Place", "RedisAddress", "parse"]


def parse(url: str) -> RedisAddress:
    """The address that *url* is.

    Raises:
        ConfigError: it is malformed; says how and what to give, and never a password.
    """
    try:
        return read_redis_url(url)
    except Malformed as fault:
        raise ConfigError((f"{fault}; give {fault.give}",)) from None
