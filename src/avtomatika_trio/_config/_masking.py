"""Addresses as people may see them."""

import re


def masked(address: str) -> str:
    """*address* without what could be a password: user part, query, fragment.

    >>> masked("redis://app:hunter2@db:6379/0?password=hunter2")
    'redis://***@db:6379/0?***'
    >>> masked("sqlite:avtomatika.db")
    'sqlite:avtomatika.db'
    """
    if re.match("sqlite:(?!//)", address):
        return address
    head, at, tail = address.rpartition("@")
    if at:
        scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", head)
        head = f"{scheme[0] if scheme else ''}***"
    else:
        head = ""
    place, mark, _ = re.sub("[?#]", "?", tail, count=1).partition("?")
    return f"{head}{at}{place}{'?***' if mark else ''}"
