"""Declare a setting once, and read tables of settings.

A setting is a dataclass field made with `setting`. Its flag, variable, ini setting, TOML key, type, default, help,
documentation and JSON Schema all come from that declaration.

Imported whenever pytest starts, so it needs nothing but the standard library.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from pytest_modelops.errors import WrongInput, said_of

FILE = "pyproject.toml"
VARIABLE_PREFIX = "PYTEST_MODELOPS_"

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
R = TypeVar("R")
Values = Mapping[str, object]
"""A table of the file, as TOML has it."""
Schema = Mapping[str, object]
"""A JSON Schema."""


class Kind(enum.Enum):
    """What an option is given with: nothing, one value, or one value each time."""

    SWITCH = enum.auto()
    ONE = enum.auto()
    MANY = enum.auto()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Given:
    """What was written for an option in one place.

    Attributes:
        texts: the values; `("true",)` for a switch on the command line.
        origin: the place, for messages: `--modelops-workers`, `PYTEST_MODELOPS_WORKERS`,
            `pytest.ini: modelops_workers`.
        directory: what a relative path is relative to.
    """

    texts: tuple[str, ...]
    origin: str
    directory: Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Where a value stands.

    Attributes:
        origin: the file, or the origin of what was given elsewhere.
        table: dotted name of the table; empty outside the file.
        inside: the key in that table: `include[0].python`; empty for the table itself.
        directory: what relative paths are relative to.
        given: what was given outside the file for each option, the strongest first.
    """

    origin: str
    table: str = ""
    inside: str = ""
    directory: Path
    given: Mapping[str, Sequence[Given]] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        """`pyproject.toml: [tool.modelops.matrix] include[0].python`."""
        parts = [part for part in (f"[{self.table}]" if self.table else "", self.inside) if part]
        return ": ".join([self.origin, *([" ".join(parts)] if parts else [])])

    def key(self, name: str) -> Place:
        return dataclasses.replace(self, inside=f"{self.inside}.{name}" if self.inside else name)

    def index(self, number: int) -> Place:
        return dataclasses.replace(self, inside=f"{self.inside}[{number}]")

    def section(self, name: str) -> Place:
        return dataclasses.replace(self, table=f"{self.table}.{name}")

    def strongest(self, option: str) -> Given | None:
        return next(iter(self.given.get(option, ())), None)


@dataclasses.dataclass(frozen=True, eq=False)
class Type(Generic[T_co]):
    """What a value means.

    Attributes:
        read: turns a value, as TOML has it, into what it means; raises `WrongInput` with the place.
        schema: what an editor is to check; of a list of tables, what an entry may be besides a table.
        from_text: turns a text of the command line, a variable or the ini file into what the file would hold.
        kind: how an option of this type is given.
        table: the declared class, if the value is a table of settings.
        section: whether the value stands under a header of its own, `[tool.modelops.key]`.
    """

    read: Callable[[object, Place], T_co]
    schema: Schema
    from_text: Callable[[str], object] = str
    kind: Kind = Kind.ONE
    table: type | None = None
    section: bool = False

    def read_given(self, given: Given) -> T_co:
        """Read what was given outside the file."""
        values = [self.from_text(text) for text in given.texts]
        place = Place(origin=given.origin, directory=given.directory)
        return self.read(values if self.kind is Kind.MANY else values[-1], place)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Declaration(Generic[T_co]):
    """One setting.

    Attributes:
        type_: what its value means, or a function that imports that.
        help: what it does, in Markdown: for the documentation, the schema and `--help`.
        key: in its table; empty if it cannot be set there.
        default: a function that returns what holds if it is set nowhere. `None`: a section that is not there is read
            as an empty one.
        shown: the default as documentation and schema show it, as TOML.
        required: if its table must have it, what is said besides of one without it.
        name: the name of flag, ini setting and variable; empty if there is no flag.
        flag_help: what the flag does, if that is not what the key does.
        metavar: what stands for the value in `--help`.
        ini: whether there is an ini setting; several values are one a line there.
        variable: whether there is a variable; several values are separated by spaces there, quoted as in a shell
            (a Dask range has commas). An empty one counts as not set.
        path: whether its values are paths.
        replaces: whether the flag's value replaces the key's, and has the same form.
        many: whether the flag takes one value each time, although `type_` is imported later.
        decides: names of the checks whose results depend on it; `None` for all. If there are none, a command that runs
            a test again does not repeat its flag.
    """

    type_: Type[T_co] | Callable[[], Type[T_co]]
    help: str
    key: str = ""
    default: Callable[[], T_co] | None = None
    shown: str = ""
    required: str = ""
    name: str = ""
    flag_help: str = ""
    metavar: str = ""
    ini: bool = False
    variable: bool = True
    path: bool = False
    replaces: bool = True
    many: bool = False
    decides: tuple[str, ...] | None = None

    @property
    def type(self) -> Type[T_co]:
        return self.type_ if isinstance(self.type_, Type) else self.type_()

    @property
    def flag(self) -> str:
        """`--modelops-workers`."""
        return f"--modelops-{self.name}"

    @property
    def dest(self) -> str:
        """`modelops_workers`: the name in `config.option`, and that of the ini setting."""
        return f"modelops_{self.name.replace('-', '_')}"

    @property
    def variable_name(self) -> str:
        """`PYTEST_MODELOPS_WORKERS`."""
        return VARIABLE_PREFIX + self.name.upper().replace("-", "_")

    @property
    def kind(self) -> Kind:
        return Kind.MANY if self.many else self.type.kind

    def read(self, values: Values, place: Place) -> T_co | None:
        """Read the setting of a table from the strongest place that has it, the table being the last.

        The table's own value is read in any case, so that an error in it does not go unnoticed.
        """
        found = None
        if self.type.section and (self.default is None or self.key in values):
            return self.type.read(values.get(self.key, {}), place.section(self.key))
        if self.key in values:
            found = self.type.read(values[self.key], place.key(self.key))
        elif self.default is not None:
            found = self.default()
        given = place.strongest(self.name) if self.name and self.replaces else None
        return found if given is None else self.type.read_given(given)


def setting(
    type_: Type[T] | Callable[[], Type[T]], help_: str, default: T | Callable[[], T] | None = None, **more: Any
) -> T:
    """Declare a dataclass field as a setting.

    Args:
        type_: what its value means, or a function that imports that: of a section without flags, which pytest does not
            need when it starts. Such a section has no default but what an empty one means.
        help_: what it does.
        default: its value where it is set nowhere; a function where that depends on the machine.
        **more: further attributes of `Declaration`. `key` is the field's name with dashes unless given.
    """
    make: Callable[[], Any] = default if callable(default) else lambda: default
    shown = more.pop("shown", None)
    if shown is None:
        shown = "" if default is None or callable(default) else as_toml(default)
    is_section = default is None and (type_.section if isinstance(type_, Type) else True)
    declaration = Declaration(type_=type_, help=help_, default=None if is_section else make, shown=shown, **more)
    metadata = {"setting": declaration, "key": more.get("key")}
    if is_section:
        return cast("T", dataclasses.field(metadata=metadata))
    if callable(default) or isinstance(default, dict):
        return cast("T", dataclasses.field(default_factory=make, metadata=metadata))
    return cast("T", dataclasses.field(default=default, metadata=metadata))


def declarations(table: type) -> Mapping[str, Declaration[object]]:
    """Return the settings of a declared class, by the names of its fields."""
    found = {}
    for field in dataclasses.fields(table):
        if "setting" in field.metadata:
            declaration: Declaration[object] = field.metadata["setting"]
            if field.metadata["key"] is None:
                declaration = dataclasses.replace(declaration, key=field.name.replace("_", "-"))
            found[field.name] = declaration
    return found


def options(table: type) -> Iterator[Declaration[object]]:
    """Yield the settings of a declared class and its sections that have a flag."""
    for declaration in declarations(table).values():
        if declaration.name:
            yield declaration
        if isinstance(declaration.type_, Type) and declaration.type_.section and declaration.type_.table is not None:
            yield from options(declaration.type_.table)


def table(declared: type[T], finish: Callable[[T, Values, Place], R], *, section: bool = False) -> Type[R]:
    """Return the type of a table.

    Args:
        declared: the dataclass that declares its settings.
        finish: makes what the table means of the class, the values of the file and the place; checks what one setting
            says of another.
        section: whether it stands under a header of its own.
    """

    def read(value: object, place: Place) -> R:
        settings = declarations(declared)
        keys = [one.key for one in settings.values() if one.key]
        if not isinstance(value, dict):
            raise WrongInput(f"{place}: {shown(value)} is not a table; its keys are {', '.join(sorted(keys))}")
        for key in value:
            if key not in keys:
                raise WrongInput(f"{place}: {not_one_of(key, 'a key', keys)}")
        fields: dict[str, Any] = {name: one.read(value, place) for name, one in settings.items()}
        for one in settings.values():
            if one.required and one.key not in value:
                raise WrongInput(f"{place}: has no {one.key}; {one.required}")
        return finish(declared(**fields), value, place)

    return Type(read, {}, table=declared, section=section)


def section(declared: type[T]) -> Type[T]:
    """Return the type of a section that needs no check besides those of its settings."""
    return table(declared, lambda found, *_: found, section=True)


def later(module: str, name: str) -> Callable[[], Type[Any]]:
    """Return a function that imports a type of `config`. Use it for what has no flag, to keep pytest's start cheap."""
    return lambda: cast("Type[Any]", getattr(importlib.import_module(f"pytest_modelops.config.{module}"), name))


def entries(entry: Type[T]) -> Type[tuple[T, ...]]:
    """Return the type of a list of tables."""

    def read(value: object, place: Place) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise WrongInput(f"{place}: {shown(value)} is not a list of tables")
        return tuple(entry.read(one, place.index(number)) for number, one in enumerate(value))

    return Type(read, {}, kind=Kind.MANY, table=entry.table)


def leaf(
    read: Callable[[Any], T], schema: Schema, *, from_text: Callable[[str], object] = str, kind: Kind = Kind.ONE
) -> Type[T]:
    """Return a type whose `read` knows nothing of places; its errors are prefixed with the place."""
    return relative(lambda value, _: read(value), schema, from_text=from_text, kind=kind)


def relative(
    read: Callable[[Any, Path], T], schema: Schema, *, from_text: Callable[[str], object] = str, kind: Kind = Kind.ONE
) -> Type[T]:
    """As `leaf`, of a value that may hold a path; `read` also gets the directory that it is relative to."""

    def read_at(value: object, place: Place) -> T:
        with said_of(str(place)):
            return read(value, place.directory)

    return Type(read_at, schema, from_text=from_text, kind=kind)


def many(item: Type[T], *, if_empty: str = "") -> Type[tuple[T, ...]]:
    """Return the type of a list, or of a single value as a list of one.

    Args:
        item: the type of its values.
        if_empty: what is said of an empty list; without it, the list may be empty.
    """

    def read(value: object, place: Place) -> tuple[T, ...]:
        if value == [] and if_empty:
            raise WrongInput(f"{place}: {if_empty}")
        return tuple(item.read(one, place) for one in (value if isinstance(value, list) else [value]))

    a_list = {"type": "array", "items": item.schema, **({"minItems": 1} if if_empty else {})}
    return Type(read, {"anyOf": [item.schema, a_list]}, from_text=item.from_text, kind=Kind.MANY)


def as_toml(value: object) -> str:
    """Return a value as it may stand in the file, on one line."""
    match value:
        case dict() if value:
            return "{ " + ", ".join(f"{key} = {as_toml(item)}" for key, item in value.items()) + " }"
        case list() | tuple():
            return "[" + ", ".join(map(as_toml, value)) + "]"
        case str() | bool():
            return json.dumps(value, ensure_ascii=False)
    return str(value)


def shown(value: object) -> str:
    """Return a wrong value, for messages."""
    return repr(value) if isinstance(value, str) else as_toml(value)


def not_one_of(text: str, what: str, valid: Collection[str]) -> str:
    """Say that a text is not valid, which one may be meant, and which there are."""
    import difflib

    close = difflib.get_close_matches(text, valid, n=1, cutoff=0.7)
    meant = f"did you mean {close[0]!r}? Valid" if close else "valid"
    return f"{text!r} is not {what}; {meant}: {', '.join(sorted(valid))}"
