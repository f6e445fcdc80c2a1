"""Which names the top level of a module binds, and by which statements. Knows no other module."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Iterable, Iterator


@dataclasses.dataclass(kw_only=True)
class Bindings:
    """What the top level of a module binds.

    Attributes:
        names: name → statements that bind it; a statement that always runs replaces those before it.
        stars: dotted names of the modules that it imports everything from.
        exported: its `__all__`, `None` when it has none that can be read.
        dynamic: whether it may bind names in ways that only running it can tell.
    """

    names: dict[str, list[ast.AST]] = dataclasses.field(default_factory=dict)
    stars: list[str] = dataclasses.field(default_factory=list)
    exported: set[str] | None = None
    dynamic: bool = False

    @classmethod
    def of(cls, tree: ast.Module, absolute: Callable[[ast.ImportFrom], str]) -> Bindings:
        """Return the bindings of a module; `absolute` names the module that a statement imports from."""
        bindings = cls(exported=_exported(tree))
        bindings.bind(tree.body, certain=True)
        for node in ast.walk(tree):
            match node:
                case ast.Global(names=names):
                    for name in names:
                        bindings.names.setdefault(name, []).append(ast.Name(id=name, lineno=node.lineno))
                case ast.ImportFrom(names=[ast.alias(name="*")]):
                    bindings.stars.append(absolute(node))
                case (
                    ast.Call(func=ast.Name(id="globals" | "exec"))
                    | ast.Call(func=ast.Name(id="vars" | "locals"), args=[])
                    | ast.Attribute(value=ast.Name(id="sys"), attr="modules")
                ):
                    bindings.dynamic = True
        return bindings

    def bind(self, body: Iterable[ast.AST], *, certain: bool) -> None:
        """Note the names that statements, or parts of one, bind; `certain` if they always run."""
        for node in body:
            for name in _bound_by(node):
                before = [] if certain else self.names.get(name, [])
                self.names[name] = [*before, node]
            if isinstance(node, ast.With | ast.AsyncWith):
                self.bind([*node.items, *node.body], certain=certain)
            elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
                # Branches, loops and handlers may run or not; a walrus may stand in any expression.
                self.bind(ast.iter_child_nodes(node), certain=False)


def _bound_by(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
        case ast.Import():
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        case ast.ImportFrom():
            yield from (alias.asname or alias.name for alias in node.names if alias.name != "*")
        case ast.AnnAssign(value=None):
            return
        case ast.Assign(targets=targets):
            yield from _stored_in(*targets)
        case ast.AnnAssign() | ast.AugAssign() | ast.NamedExpr() | ast.For() | ast.AsyncFor():
            yield from _stored_in(node.target)
        case ast.withitem(optional_vars=ast.expr() as target):
            yield from _stored_in(target)
        case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name


def _stored_in(*targets: ast.AST) -> Iterator[str]:
    for node in (node for target in targets for node in ast.walk(target)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _exported(tree: ast.Module) -> set[str] | None:
    """Return a module's `__all__` if it is one literal."""
    found = None
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            if found is not None or not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
                return None
            try:
                found = {str(name) for name in ast.literal_eval(node.value)}
            except (ValueError, TypeError):
                return None
    return found
