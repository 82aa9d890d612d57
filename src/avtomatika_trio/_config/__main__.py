"""`python -m avtomatika_trio._config` writes the reference page of settings."""

import sys

from avtomatika_trio._config import settings_markdown

if __name__ == "__main__":
    sys.stdout.write(settings_markdown())
