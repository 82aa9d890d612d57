"""What an error reply of Redis means for who asked: whose fault it is and what helps."""

import enum

from redis.exceptions import ResponseError


class Verdict(enum.Enum):
    """What to do about an error reply."""

    ANSWER = "it is the answer to the command"
    AGAIN = "the server can't now and soon can: send the command again"
    DENIED = "nothing but an operator helps"
    NOT_MASTER = "another server is the master"
    NO_SCRIPT = "the server has to be given the script"
    MOVED = "another node has the key"
    ASK = "another node has the key, for this once"


_AGAIN = {
    "LOADING": "it is still loading its data",
    "CLUSTERDOWN": "the cluster is down: some of its nodes can't be reached",
    "TRYAGAIN": "the cluster is moving the keys",
    "MASTERDOWN": "it is a replica that has lost its master",
    "BUSY": "a script has kept it busy for long; SCRIPT KILL ends one",
}

_DENIED = {
    "OOM": "its memory is full; raise maxmemory, or keep finished jobs for a shorter time",
    "MISCONF": "it can't write to its disk; make room there and read the server's log",
    "NOAUTH": "it asks for a password; put USER:PASSWORD@ into the URL of the storage",
    "WRONGPASS": "it does not accept the user or the password; correct the URL of the storage",
    "NOPERM": "the user may not do this; give it +@all on all keys and channels (ACL SETUSER)",
    "NOREPLICAS": "it has too few replicas to write; start them, or lower min-replicas-to-write",
}

NOT_MASTER_TEXT = "it is a read-only replica; name the master, or its sentinels (redis+sentinel:)"

_SPECIAL = {"NOSCRIPT": Verdict.NO_SCRIPT, "MOVED": Verdict.MOVED, "ASK": Verdict.ASK}

_WRONG_PASSWORD = ("invalid password", "without any password configured", "no password is set")


def judge(error: ResponseError) -> tuple[Verdict, str]:
    """What *error* asks for, and a text for people."""
    text = str(error)
    code = text.partition(" ")[0]
    if code in _AGAIN:
        return Verdict.AGAIN, _AGAIN[code]
    if code in _DENIED:
        return Verdict.DENIED, _DENIED[code]
    if code == "READONLY":
        return Verdict.NOT_MASTER, NOT_MASTER_TEXT
    if code in _SPECIAL:
        return _SPECIAL[code], text
    if "max number of clients" in text:
        return Verdict.AGAIN, "it has too many clients; raise maxclients"
    if any(known in text for known in _WRONG_PASSWORD):
        return Verdict.DENIED, _DENIED["WRONGPASS"]
    return Verdict.ANSWER, text


def tells_remedy(reason: str) -> bool:
    """Whether *reason* has the text of a server that has answered, which says what helps."""
    texts = (*_AGAIN.values(), *_DENIED.values(), NOT_MASTER_TEXT)
    return any(text in reason for text in texts)
