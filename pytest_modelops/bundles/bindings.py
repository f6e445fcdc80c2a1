"""Which names the top level of a module binds, and by which statements; knows no other module."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Iterator, Sequence


@dataclasses.dataclass(kw_only=True)
class Bindings:
    """What the top level of a module binds.

    Attributes:
        names: name → statements that bind it; a statement that always runs replaces those before it.
        stars: modules that it imports everything from, dotted, as seen from anywhere.
        exported: its `__all__`, `None` when it has none that can be read.
        dynamic: whether it makes names in ways that only running it tells.
    """

    names: dict[str, list[ast.AST]] = dataclasses.field(default_factory=dict)
    stars: list[str] = dataclasses.field(default_factory=list)
    exported: set[str] | None = None
    dynamic: bool = False

    @classmethod
    def of(cls, tree: ast.Module, absolute: Callable[[ast.ImportFrom], str]) -> Bindings:
        """Those of a module; `absolute` tells which module a statement imports from."""
        bindings = cls(exported=_exported(tree))
        bind(tree.body, bindings, certain=True)
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


def bind(body: Sequence[ast.AST], bindings: Bindings, *, certain: bool) -> None:
    """Note what statements bind, in order.

    Args:
        body: statements, or parts of one.
        bindings: where they are noted.
        certain: whether they always run.
    """
    for node in body:
        names = list(_bound_by(node))
        for name in names:
            if certain:
                bindings.names[name] = [node]
            else:
                bindings.names.setdefault(name, []).append(node)
        if isinstance(node, ast.With | ast.AsyncWith):
            bind([*node.items, *node.body], bindings, certain=certain)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            # Branches, loops and handlers may run or not; a walrus may stand in any expression.
            bind(list(ast.iter_child_nodes(node)), bindings, certain=False)


def _bound_by(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
        case ast.Import():
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        case ast.ImportFrom():
            yield from (alias.asname or alias.name for alias in node.names if alias.name != "*")
        case ast.Assign(targets=targets):
            yield from (name for target in targets for name in _stored_in(target))
        case ast.AnnAssign(value=None):
            return
        case ast.AnnAssign() | ast.AugAssign() | ast.NamedExpr() | ast.For() | ast.AsyncFor():
            yield from _stored_in(node.target)
        case ast.withitem(optional_vars=ast.expr() as target):
            yield from _stored_in(target)
        case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name


def _stored_in(target: ast.AST) -> Iterator[str]:
    for node in ast.walk(target):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _exported(tree: ast.Module) -> set[str] | None:
    """A module's `__all__`, where it is one literal."""
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
