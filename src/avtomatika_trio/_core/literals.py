"""Which strings an expression can be, as far as its source text tells.

Follows literals, conditional expressions, names bound once or more to such, and the constants
of the module or the enclosing function.  The answer says whether it is complete, or whether the
expression may be something more that is known only at run time.
"""

import ast
import enum
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Generic, TypeVar

import attrs

S = TypeVar("S")
T = TypeVar("T")
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

#: What changes a dict after it was written down.
_DICT_MUTATORS = frozenset({"update", "setdefault", "pop", "popitem", "clear"})


@attrs.frozen
class Known(Generic[T]):
    """What an expression may be, in the order of the text, each once."""

    values: tuple[T, ...] = ()
    complete: bool = True
    """False = it may also be something that the text does not tell."""


class Names:
    """The names of one function: what each may be.

    Args:
        function: The parsed function.
        outer: Names of the enclosing functions and the module, with their present values.
    """

    def __init__(self, function: Function, outer: Mapping[str, object]) -> None:
        self.bound = bindings(function)
        self._outer = outer
        self._open: set[str] = set()

    def strings(self, expr: ast.expr) -> Known[str]:
        """Every string that *expr* may be."""
        found: Known[str] = Known(complete=False)
        match expr:
            case ast.Constant(value=str() as text):
                found = Known((text,))
            case ast.IfExp(body=body, orelse=orelse):
                found = _union(self.strings, (body, orelse))
            case ast.BoolOp(values=values):
                found = _union(self.strings, values)
            case ast.NamedExpr(value=inner):
                found = self.strings(inner)
            case ast.Name(id=name) if name in self.bound:
                found = self._through(name, self.strings)
            case ast.Name() | ast.Attribute():
                value = self._outer_value(expr)
                if isinstance(value, str):
                    found = Known((str.__str__(value),))
            case ast.Subscript(value=table):
                pairs = self.pairs(table)
                texts = dict.fromkeys(text for _, text in pairs.values)
                found = Known(tuple(texts), complete=pairs.complete)
        return found

    def pairs(self, expr: ast.expr) -> Known[tuple[str, str]]:
        """Every pair of key and string that the dict *expr* may have."""
        found: Known[tuple[str, str]] = Known(complete=False)
        match expr:
            case ast.Constant(value=None):
                found = Known()
            case ast.Dict(keys=keys, values=values):
                found = _union(self._item, zip(keys, values, strict=True))
            case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
                items = [(ast.Constant(it.arg) if it.arg else None, it.value) for it in keywords]
                found = _union(self._item, items)
            case (
                ast.IfExp(body=left, orelse=right)
                | ast.BinOp(left=left, op=ast.BitOr(), right=right)
            ):
                found = _union(self.pairs, (left, right))
            case ast.BoolOp(values=values):
                found = _union(self.pairs, values)
            case ast.Name(id=name) if name in self.bound:
                found = self._through(name, self.pairs)
            case ast.Name() | ast.Attribute():
                found = _table(self._outer_value(expr))
        return found

    def values(self, name: str) -> tuple[ast.expr | None, ...]:
        """What *name* is bound to in the function; None = something that cannot be followed."""
        return tuple(self.bound.get(name, ()))

    def _through(self, name: str, read: Callable[[ast.expr], Known[T]]) -> Known[T]:
        """What *name* may be by all its bindings; one that leads back to itself is not followed."""
        if name in self._open:
            return Known(complete=False)
        self._open.add(name)
        try:
            return _union(
                lambda expr: Known(complete=False) if expr is None else read(expr),
                self.bound[name],
            )
        finally:
            self._open.discard(name)

    def _item(self, item: tuple[ast.expr | None, ast.expr]) -> Known[tuple[str, str]]:
        key, value = item
        if key is None:  # {**value}
            return self.pairs(value)
        keys, values = self.strings(key), self.strings(value)
        return Known(
            tuple((one, other) for one in keys.values for other in values.values),
            complete=keys.complete and values.complete,
        )

    def _outer_value(self, expr: ast.expr) -> object:
        """The present value of a name outside of the function, or of an attribute of one."""
        match expr:
            case ast.Name(id=name) if name not in self.bound:
                return self._outer.get(name)
            case ast.Attribute(value=owner, attr=attr):
                return _attribute(self._outer_value(owner), attr)
        return None


def bindings(function: Function) -> dict[str, list[ast.expr | None]]:
    """Every name that *function* binds: the expressions, None for what cannot be followed."""
    bound: dict[str, list[ast.expr | None]] = defaultdict(list)
    followed: set[ast.AST] = set()
    for node in (node for part in parts(function) for node in ast.walk(part)):
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    if isinstance(target, ast.Name):
                        followed.add(target)
                        bound[target.id].append(value)
            case ast.AnnAssign(target=ast.Name() as target, value=value_or_none):
                followed.add(target)
                if value_or_none is not None:
                    bound[target.id].append(value_or_none)
            case ast.NamedExpr(target=target, value=value):
                followed.add(target)
                bound[target.id].append(value)
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) if node not in followed:
                bound[name].append(None)
            case _:
                for name in _bound_otherwise(node):
                    bound[name].append(None)
    return dict(bound)


def parts(function: Function) -> list[ast.AST]:
    """The parameters and the body; decorators and defaults belong to the surroundings."""
    arguments = function.args
    optional = [arg for arg in (arguments.vararg, arguments.kwarg) if arg is not None]
    body = [function.body] if isinstance(function, ast.Lambda) else function.body
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *optional, *body]


def _bound_otherwise(node: ast.AST) -> Iterable[str]:
    """The names that *node* binds, or whose dict it changes, by other means than assignment."""
    names: Iterable[str] = ()
    match node:
        case (
            ast.arg(arg=name)
            | ast.ExceptHandler(name=str(name))
            | ast.FunctionDef(name=name)
            | ast.AsyncFunctionDef(name=name)
            | ast.ClassDef(name=name)
            | ast.MatchAs(name=str(name))
            | ast.MatchStar(name=str(name))
            | ast.MatchMapping(rest=str(name))
            | ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del())
        ):
            names = (name,)
        case ast.alias(name=name, asname=asname):
            names = (asname or name.partition(".")[0],)
        case ast.Global(names=several) | ast.Nonlocal(names=several):
            names = several
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attr)) if (
            attr in _DICT_MUTATORS
        ):
            names = (name,)
    return names


def _union(read: Callable[[S], Known[T]], items: Iterable[S]) -> Known[T]:
    """All that *read* finds in the items, each once."""
    found = [read(item) for item in items]
    values = dict.fromkeys(value for some in found for value in some.values)
    return Known(tuple(values), complete=all(some.complete for some in found))


def _attribute(owner: object, attr: str) -> object:
    """A constant of a class, an enum or a module, without running any code of theirs."""
    if isinstance(owner, enum.EnumMeta):
        return owner.__members__.get(attr)
    if isinstance(owner, enum.Enum):
        return owner.value if attr == "value" else None
    if isinstance(owner, type | ModuleType):
        return vars(owner).get(attr)
    return None


def _table(value: object) -> Known[tuple[str, str]]:
    """A dict of strings as pairs."""
    if not isinstance(value, dict):
        return Known(complete=False)
    plain = [pair for pair in value.items() if all(isinstance(part, str) for part in pair)]
    return Known(
        tuple((str.__str__(key), str.__str__(text)) for key, text in plain),
        complete=len(plain) == len(value),
    )
