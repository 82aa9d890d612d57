"""Schemas of events: which can be used, and what fits them."""

import json
import time
import tracemalloc
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings, strategies as st
from pydantic import BaseModel, Field

from avtomatika_trio._core.event_rules import contract_fault, declared_faults
from avtomatika_trio._core.json_schema import TYPES, Effort, misfit
from avtomatika_trio._core.schema_faults import schema_faults

TEXT, WHOLE = {"type": "string"}, {"type": "integer"}
TREE = {"$ref": "#/$defs/tree", "$defs": {"tree": {"items": {"$ref": "#/$defs/tree"}}}}

FITS: list[tuple[Any, Any]] = [
    ({}, None),
    (True, [1]),
    (WHOLE, 3),
    (WHOLE, 3.0),
    ({"type": ["string", "null"]}, None),
    ({"enum": ["a", 1, None]}, 1.0),
    ({"const": {"a": [1]}}, {"a": [1.0]}),
    ({"minimum": 1, "exclusiveMaximum": 2}, 1.5),
    ({"multipleOf": 0.1}, 0.3),
    ({"minLength": 1, "maxLength": 2}, "ab"),
    ({"minItems": 1, "uniqueItems": True}, [1, "1", True]),
    ({"minProperties": 1, "propertyNames": {"maxLength": 2}}, {"ab": 1}),
    ({"properties": {"a": TEXT}, "required": ["a"], "additionalProperties": WHOLE}, {"a": "x"}),
    ({"properties": {"a": TEXT}, "additionalProperties": WHOLE}, {"b": 1}),
    ({"prefixItems": [TEXT], "items": WHOLE}, ["a", 1, 2]),
    ({"allOf": [TEXT, {"minLength": 1}]}, "a"),
    ({"anyOf": [TEXT, WHOLE]}, 1),
    ({"oneOf": [TEXT, WHOLE]}, "a"),
    ({"not": TEXT}, 1),
    ({"pattern": "^a+$"}, "aa"),
    ({"pattern": "^a+$"}, 7),
    (TREE, [[], [[]]]),
    ({"title": "T", "format": "date", "default": 1}, 1),
    ({"minimum": 5, "minLength": 5, "minItems": 5, "required": ["a"]}, None),
]

FITS_NOT: list[tuple[Any, Any, str]] = [
    (False, 1, "it: nothing is allowed here"),
    (WHOLE, True, "it: true is no integer"),
    (WHOLE, 1.5, "it: 1.5 is no integer"),
    ({"type": "number"}, "1", 'it: "1" is no number'),
    ({"type": ["string", "null"]}, [1], "it: a list is no string or null"),
    ({"enum": ["a", 1]}, True, 'it: true is none of "a", 1'),
    ({"const": [1]}, [1, 2], "it: a list is not a list"),
    ({"minimum": 1}, 0, "it: 0 is too small"),
    ({"exclusiveMinimum": 1}, 1, "it: 1 is too small"),
    ({"maximum": 1}, 2, "it: 2 is too large"),
    ({"exclusiveMaximum": 1}, 1, "it: 1 is too large"),
    ({"multipleOf": 0.1}, 0.35, "it: 0.35 is no multiple of 0.1"),
    ({"maxLength": 1}, "ab", "it: is too long, it has 2"),
    ({"minItems": 1}, [], "it: is too short, it has 0"),
    ({"maxProperties": 0}, {"a": 1}, "it: is too long, it has 1"),
    ({"uniqueItems": True}, [{"a": 1, "b": 2}, {"b": 2, "a": 1}], "it: has an item twice"),
    ({"required": ["a"]}, {"b": 1}, 'it: "a" is missing'),
    (
        {"properties": {"a": TEXT}, "additionalProperties": False},
        {"b": 1},
        "it.b: is not known; there are a",
    ),
    ({"additionalProperties": WHOLE}, {"b": "x"}, 'it.b: "x" is no integer'),
    ({"propertyNames": {"maxLength": 1}}, {"ab": 1}, "it (a name): is too long, it has 2"),
    ({"properties": {"a": {"items": TEXT}}}, {"a": ["x", 1]}, "it.a[1]: 1 is no string"),
    ({"prefixItems": [TEXT], "items": False}, ["a", 1], "it[1]: nothing is allowed here"),
    ({"allOf": [TEXT, {"minLength": 1}]}, "", "it: is too short, it has 0"),
    (
        {"anyOf": [TEXT, WHOLE]},
        None,
        "it: fits none of the choices (it: null is no string; it: null is no integer)",
    ),
    ({"oneOf": [WHOLE, {"type": "number"}]}, 1, "it: fits 2 of the choices, not one"),
    ({"not": TEXT}, "a", 'it: "a" is what it must not be'),
    ({"pattern": "^a+$"}, "b", "it: \"b\" does not match '^a+$'"),
    (TREE | {"$defs": {"tree": {"type": "array"}}}, 1, "it: 1 is no array"),
    ({"type": "string"}, {"x": "y" * 100}, "it: an object is no string"),
    ({"maxLength": 1}, "y" * 100, "it: is too long, it has 100"),
    ({"const": "a"}, "y" * 100, f'it: "{"y" * 80}…" is not "a"'),
]


@pytest.mark.parametrize(("schema", "value"), FITS)
def test_what_fits(schema: Any, value: Any) -> None:
    assert schema_faults(schema, "schema", with_patterns=True) == []
    assert misfit(value, schema, "it", with_patterns=True) is None


@pytest.mark.parametrize(("schema", "value", "fault"), FITS_NOT)
def test_what_does_not_fit_is_named_with_its_place(schema: Any, value: Any, fault: str) -> None:
    assert schema_faults(schema, "schema", with_patterns=True) == []
    assert misfit(value, schema, "it", with_patterns=True) == fault


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        (7, "schema: a schema is an object, or true or false, not 7"),
        ({"type": "text"}, "schema.type: is one or some of null, boolean, integer"),
        ({"type": []}, "schema.type: is one or some of"),
        ({"enum": []}, "schema.enum: is a list of values"),
        ({"required": "a"}, "schema.required: is a list of names"),
        ({"minLength": -1}, "schema.minLength: is a whole number from 0"),
        ({"minimum": True}, "schema.minimum: is a number"),
        ({"multipleOf": 0}, "schema.multipleOf: is a number above 0"),
        ({"uniqueItems": 1}, "schema.uniqueItems: is true or false"),
        ({"pattern": "("}, "schema.pattern: '(' is no regular expression of Python"),
        ({"pattern": 1}, "schema.pattern: is a regular expression"),
        ({"properties": []}, "schema.properties: is an object of schemas"),
        ({"anyOf": []}, "schema.anyOf: is a list of schemas"),
        ({"items": [TEXT]}, "schema.items: a schema is an object"),
        (
            {"properties": {"a": {"items": {"if": {}}}}},
            "schema.properties.a.items.if: is not known",
        ),
        ({"$ref": "#/properties/a"}, "schema.$ref: leads to nothing"),
        ({"$ref": "http://x/y"}, "schema.$ref: leads to nothing"),
        ({"$ref": "#/$defs/a", "$defs": {"b": {}}}, "schema.$ref: leads to nothing"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_place(schema: Any, fault: str) -> None:
    [found] = schema_faults(schema, "schema", with_patterns=True)
    assert found.startswith(fault)


def test_a_schema_of_a_model_can_be_used() -> None:
    class Box(BaseModel):
        left: int
        label: str | None = Field(default=None, max_length=5)

    class Frame(BaseModel):
        boxes: list[Box]
        share: float = Field(ge=0, le=1)
        kind: tuple[int, str] = (1, "a")

    schema = Frame.model_json_schema()
    assert schema_faults(schema, "schema", with_patterns=True) == []
    fits = {"boxes": [{"left": 1, "label": "a"}], "share": 0.5}
    assert misfit(fits, schema, "it", with_patterns=True) is None
    wrong = {"boxes": [{"left": 1, "label": "too long"}], "share": 0.5}
    found = misfit(wrong, schema, "it", with_patterns=True)
    assert found is not None
    assert found.startswith("it.boxes[0].label: fits none of the choices")


def test_one_that_leads_in_circles_comes_to_an_end() -> None:
    circle = {"$ref": "#"}
    assert schema_faults(circle, "schema", with_patterns=False) == []
    assert misfit(1, circle, "it", with_patterns=False) == (
        "it: is too much to be held against its schema"
    )
    branching = {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}] * 9}}, "$ref": "#/$defs/a"}
    assert misfit(1, branching, "it", with_patterns=False) == (
        "it: is too much to be held against its schema"
    )


def test_a_schema_and_a_value_that_are_too_much_come_to_an_end() -> None:
    deep: Any = {}
    for _ in range(200):
        deep = {"items": deep}
    assert "50 levels" in schema_faults(deep, "schema", with_patterns=False)[0]
    wide: Any = {"allOf": [{}] * 6000}
    assert "1000 schemas" in schema_faults(wide, "schema", with_patterns=False)[0]
    long = {"items": {"enum": [str(n) for n in range(1000)]}}
    found = misfit(["999"] * 1000, long, "it", with_patterns=False)
    assert found == "it: is too much to be held against its schema"


NUMBERS = list(range(1_000))
LONG = "n" * 4_000
DEEP: dict[str, Any] = {}
_at = DEEP
for _ in range(45):
    _at = _at.setdefault("properties", {}).setdefault("p" * 10_000, {})
_at.update({f"k{n}": 0 for n in range(40_000)})


def often(schema: Any) -> dict[str, Any]:
    """A schema that holds `a` against *schema* some thousand times."""
    many = {"allOf": [{"$ref": "#/$defs/one"}] * 900}
    return {
        "$defs": {"one": schema, "many": many},
        "properties": {"a": {"allOf": [{"$ref": "#/$defs/many"}] * 5}},
    }


def choices(name: str) -> dict[str, Any]:
    """A schema whose message holds all that did not fit, were there no bound."""
    levels = {f"l{n + 1}": {"anyOf": [{"$ref": f"#/$defs/l{n}"}] * 5} for n in range(4)}
    defs = {"l0": {"enum": ["x" * 80] * 20}, **levels}
    return {"$defs": defs, "properties": {name: {"$ref": "#/$defs/l4"}}}


@pytest.mark.parametrize(
    ("schemas", "payload"),
    [
        ({"e": often({"uniqueItems": True})}, {"a": NUMBERS}),
        ({"e": often({"not": {"const": [*NUMBERS[:-1], 0]}})}, {"a": NUMBERS}),
        ({"e": often({"not": {"enum": [[*NUMBERS[:-1], 0]] * 30}})}, {"a": NUMBERS}),
        ({"e": often({"not": {"const": {str(n): 0 for n in NUMBERS}}})}, {"a": {}}),
        ({"e": {"type": ["null"] * 100_000}}, {}),
        ({"e": choices(LONG)}, {LONG: 1}),
        ({"e": {"properties": {"x" * 900_000: {}}, "additionalProperties": False}}, {LONG: 1}),
        ({"e": DEEP}, {}),
        ({f"{'ba' * 60}{n}": {} for n in range(7_000)}, {}),
    ],
)
def test_what_strangers_declare_takes_little_time_and_memory(
    schemas: dict[str, Any], payload: dict[str, Any]
) -> None:
    """Each of these has taken seconds, gigabytes, or a message of megabytes."""
    tracemalloc.start()
    began = time.process_time()
    try:
        found = contract_fault("e" * 128, payload, schemas, strict=True, effort=Effort())
        found = found and contract_fault("e", payload, schemas, strict=True, effort=Effort())
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 1
    assert most_bytes < 8 * 2**20
    assert len(found or "") < 4_000


def test_what_came_together_shares_one_effort() -> None:
    effort = Effort(steps=25_000)
    schema, payload = {"e": often({})}, {"a": 1}
    found = [
        contract_fault("e", payload, schema, strict=True, effort=effort) is None for _ in range(9)
    ]
    assert found == [True] * 2 + [False] * 7


def test_patterns_of_strangers_are_not_run() -> None:
    slow = {"pattern": "(a+)+$"}
    assert schema_faults(slow, "schema", with_patterns=False) == []
    assert misfit("a" * 40 + "b", slow, "it", with_patterns=False) is None


def test_what_is_declared_is_looked_at_as_a_whole() -> None:
    assert declared_faults({"ok": {}, "progress": {}}) == []
    assert declared_faults([]) == ["events_schema: is a dict of schemas by event type, not []"]
    first, second = declared_faults({"a b": {}, "c": {"type": "text"}})
    assert first.startswith("events_schema: event_type: is 1 to 128 letters, digits")
    assert second == f"events_schema.c.type: is one or some of {', '.join(TYPES)}"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=20,
)
KEYWORDS = ["type", "enum", "items", "anyOf", "properties", "required", "minimum", "$ref", "not"]


@given(st.dictionaries(st.sampled_from(KEYWORDS), JSON), JSON)
def test_nothing_that_anybody_sends_raises(schema: dict[str, Any], value: Any) -> None:
    value = json.loads(json.dumps(value))
    if not schema_faults(schema, "schema", with_patterns=True):
        misfit(value, schema, "it", with_patterns=True)


SMALL = st.integers(min_value=0, max_value=3)
NAMES = st.sampled_from(["a", "b"])
SCHEMAS = st.recursive(
    st.booleans()
    | st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(list(TYPES))
            | st.lists(st.sampled_from(list(TYPES)), min_size=1, unique=True),
            "enum": st.lists(JSON, min_size=1, max_size=3),
            "const": JSON,
            "minimum": SMALL,
            "exclusiveMaximum": SMALL,
            "minLength": SMALL,
            "maxItems": SMALL,
            "uniqueItems": st.booleans(),
            "required": st.lists(NAMES, unique=True),
            "maxProperties": SMALL,
        },
    ),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(NAMES, inner, max_size=2),
            "additionalProperties": inner,
            "propertyNames": inner,
            "prefixItems": st.lists(inner, min_size=1, max_size=2),
            "items": inner,
            "allOf": st.lists(inner, min_size=1, max_size=2),
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "oneOf": st.lists(inner, min_size=1, max_size=2),
            "not": inner,
        },
    ),
    max_leaves=6,
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 4) | st.sampled_from([1.0, 1.5]) | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner),
    max_leaves=6,
)


@settings(max_examples=500)
@given(SCHEMAS, VALUES)
def test_it_says_what_the_standard_says(schema: Any, value: Any) -> None:
    assert schema_faults(schema, "schema", with_patterns=True) == []
    fits = misfit(value, schema, "it", with_patterns=True) is None
    assert fits == jsonschema_rs.Draft202012Validator(schema).is_valid(value)
