"""Signatures as RXON has them: the vectors of the protocol, and what they must not depend on."""

import json
from typing import Any

import pytest
from hypothesis import assume, given, strategies as st

from avtomatika_trio._wire.signing import (
    canonical,
    check_message,
    check_task,
    sign_message,
    sign_task,
    signed,
)
from avtomatika_trio._wire.token_hashes import hash_token, is_token_hash, matches
from avtomatika_trio.errors import InvalidMessage

KEY = b"secure-worker-token"

#: (as it is sent, the signed text, the signature); the second was captured from the original.
VECTORS = [
    (
        (
            '{"worker_id":"m1","supported_skills":[{"name":"echo"}],"timestamp":1795457189,'
            '"metadata":{"f":2.0,"g":0.00001,"h":1e-6,"n":null,"l":[null,1.0],"u":"é"}}'
        ),
        (
            '{"metadata":{"f":2,"g":0.00001,"h":1e-6,"l":[null,1],"u":"é"},'
            '"supported_skills":[{"name":"echo"}],"timestamp":1795457189,"worker_id":"m1"}'
        ),
        "e868914a37c6955c907ae05a0fbf43d0c1269e36ae065e3d986fc02d064c8f16",
    ),
    (
        (
            '{"costs":{"execution_time_seconds":0.001},"data":{"echo":{"a":1,"l":[null,2.5]}},'
            '"job_id":"83835379-ce0a-4d7a-94cb-34deda88e757","origin_worker_id":"w1",'
            '"task_id":"task-5406956a-df18-4f75-b6d9-386282794402","timestamp":1795458086,'
            '"worker_id":"w1"}'
        ),
        None,
        "a3dbdd6cc098aa4f337028a9d3fc50e06d63c01936a57f2cd1e2245c4bc5a350",
    ),
]

values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(exclude_categories=["Cs"])),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4),
    ),
    max_leaves=20,
)
messages = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1), values, max_size=6
)


@pytest.mark.parametrize(("sent", "text", "signature"), VECTORS)
def test_the_vectors_of_the_protocol(sent: str, text: str | None, signature: str) -> None:
    body = json.loads(sent)
    assert canonical(body).decode() == (text or sent)
    assert sign_message(body, KEY) == signature
    assert check_message({**body, "security": {"signature": signature}}, signature, KEY)
    assert not check_message(body, signature, b"another key")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00001, "0.00001"),
        (0.000012345, "0.000012345"),
        (1e-6, "1e-6"),
        (2.5e-10, "2.5e-10"),
        (-1.25e-7, "-1.25e-7"),
        (-0.5, "-0.5"),
        (-0.0, "0"),
        (1e16, "10000000000000000"),
        (1.0, "1"),
        (0.1, "0.1"),
        (123456.789, "123456.789"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert canonical({"x": value}).decode() == f'{{"x":{text}}}'


def test_texts() -> None:
    said = {"a": '/\x7f\u2028é"\\', "b": "\x00\x08\t\n\x0c\r\x1f"}
    expected = '{"a":"/\x7f\u2028é\\"\\\\","b":"\\u0000\\b\\t\\n\\f\\r\\u001f"}'
    assert canonical(said).decode() == expected


@given(messages)
def test_the_text_is_json_of_the_same_and_signs_to_the_same(body: dict[str, Any]) -> None:
    again = json.loads(canonical(body))
    assert canonical(again) == canonical(body)
    turned = dict(reversed(body.items()))
    assert sign_message(turned, KEY) == sign_message(body, KEY)
    assert sign_message({**body, "null": None}, KEY) == sign_message(
        {name: it for name, it in body.items() if name != "null"}, KEY
    )


@given(messages, st.text(st.characters(exclude_categories=["Cs"]), min_size=1), values)
def test_whatever_is_changed_shows(body: dict[str, Any], name: str, value: Any) -> None:
    assume(name not in ("security", "_signature", "bubbling_chain"))
    changed = {**body, name: value}
    assume(canonical(changed) != canonical(body))
    assert not check_message(changed, sign_message(body, KEY), KEY)


def test_events_may_collect_who_has_passed_them_on() -> None:
    event = {"event_id": "e", "event_type": "progress", "bubbling_chain": []}
    signature = sign_message(event, KEY)
    assert check_message({**event, "bubbling_chain": ["w1"]}, signature, KEY)
    other: dict[str, Any] = {"bubbling_chain": []}
    assert not check_message({"bubbling_chain": ["w1"]}, sign_message(other, KEY), KEY)


def test_a_message_is_signed_for_sending_alone_and_in_a_list() -> None:
    one = json.loads(signed(b'{"a":1}', key=KEY, signer_id="w1", timestamp=5))
    assert one["timestamp"] == 5
    assert one["security"]["signer_id"] == "w1"
    assert check_message(one, one["security"]["signature"], KEY)
    for each in json.loads(signed(b'[{"a":1},{"a":2}]', key=KEY, signer_id="w1", timestamp=5)):
        assert check_message(each, each["security"]["signature"], KEY)


def test_the_extensions_of_a_task_are_outside_of_its_signature() -> None:
    task = {"job_id": "j", "task_id": "t", "type": "x", "params": {"a": None, "b": 1.0}}
    full = {**task, "attempt": 2, "idempotency_key": "k", "lease_seconds": 30.0}
    full["sig"] = sign_task(task, KEY)
    assert check_task(full, KEY)
    assert not check_task({**full, "params": {"b": 2}}, KEY)
    assert not check_task({**full, "unknown": 1}, KEY)
    assert check_task({**full, "skill_version": "1", "skill_type": "x"}, KEY)  # as the original
    assert not check_task({**full, "skill_version": "1", "unknown": 1}, KEY)
    assert not check_task(task, KEY)
    assert not check_task({**full, "sig": 5}, KEY)


def test_what_is_nested_too_deeply_is_refused() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(InvalidMessage):
        sign_message({"a": deep}, KEY)


# Hashes of tokens.


@given(st.text(min_size=1), st.binary(min_size=16, max_size=64))
def test_a_hash_fits_its_token_only(token: str, salt: bytes) -> None:
    assume(not any(0xD800 <= ord(it) <= 0xDFFF for it in token))
    hashed = hash_token(token, salt)
    assert is_token_hash(hashed)
    assert matches(token, hashed)
    assert not matches(token + "x", hashed)
    assert hash_token(token, salt + b"x")[-64:] != hashed[-64:]


@pytest.mark.parametrize(
    "text", ["", "hs256", "hs256$00$00", f"hs256${'0' * 31}$" + "0" * 64, "HS256$" + "0" * 97]
)
def test_what_is_no_hash(text: str) -> None:
    assert not is_token_hash(text)
    assert not matches("token", text)
