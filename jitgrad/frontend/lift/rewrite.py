"""A function's syntax tree with its statements of control rewritten into calls of the helper.

A block (the body of a loop, a side of a branch) becomes a function of the names that it reads or binds; it ends by
handing over its local variables, with a word on how it was left. What follows a branch that may leave the block goes into
the sides of the branch, so that no flag is tested:

    if c: break             def then(x): return stage.broke(locals())
    x = x + 1       ->      def otherwise(x): x = x + 1; return stage.fell(locals())
                            return stage.branch(c, then, otherwise, ("x",), locals())
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from .names import Names, argument_names, contains, defined, jumps, root_of

HELPER = "__jitgrad_stage"
PREFIX = "__jitgrad_"
_IMPURE = (
    ast.Global, ast.Nonlocal, ast.With, ast.AsyncWith, ast.Try, ast.Import, ast.ImportFrom, ast.Yield, ast.YieldFrom, ast.Await,
    ast.ClassDef, ast.Delete, ast.AsyncFor,
)  # fmt: skip
_OPAQUE = (ast.With, ast.AsyncWith, ast.Try, ast.AsyncFor, ast.AsyncFunctionDef, ast.ClassDef, ast.Match)
_FRAME_READERS = {"super", "locals", "globals", "eval", "exec", "vars", "dir"}


def rewritten(definition: ast.FunctionDef | ast.Lambda) -> ast.FunctionDef | ast.Lambda:
    """The definition, rewritten; its decorators and default values are gone (the function has them already)."""
    return _Function(definition).run()


class _Function:
    """One function's rewriting."""

    def __init__(self, definition: ast.FunctionDef | ast.Lambda):
        self.definition = definition
        body = definition.body if isinstance(definition, ast.FunctionDef) else [definition.body]
        found = Names(body)
        self.locals = {*argument_names(definition.args), *found.bound} - found.elsewhere
        self.captured = found.captured
        self.stored = _stored_into(body)
        self.count = 0
        self.loops = 0  # how deep in loops

    def run(self) -> ast.FunctionDef | ast.Lambda:
        definition, args = self.definition, self.definition.args
        no_defaults: list = [None] * len(args.kwonlyargs)
        empty = ast.arguments(args.posonlyargs, args.args, args.vararg, args.kwonlyargs, no_defaults, args.kwarg, [])
        for argument in (*args.posonlyargs, *args.args, *args.kwonlyargs, *filter(None, (args.vararg, args.kwarg))):
            argument.annotation = None
        empty.defaults = [ast.Constant(None) for _ in args.defaults]
        empty.kw_defaults = [None if d is None else ast.Constant(None) for d in args.kw_defaults]
        if isinstance(definition, ast.Lambda):
            new: ast.FunctionDef | ast.Lambda = ast.Lambda(empty, self.expression(definition.body))
        else:
            body = self.block(definition.body, None) or [ast.Pass()]
            new = defined(definition.name, empty, body)
        ast.copy_location(new, definition)
        return ast.fix_missing_locations(new)

    # --- statements. `names`: those of the block function that the statements are in; None: the function itself.
    #     `follow`: the function with which the block goes on at its end, if it does not end there

    def block(
        self, statements: Sequence[ast.stmt], names: list[str] | None, follow: ast.FunctionDef | None = None
    ) -> list[ast.stmt]:
        """The statements, rewritten."""
        new: list[ast.stmt] = []
        for k, statement in enumerate(statements):
            if isinstance(statement, (ast.If, ast.For, ast.While)) and self._may_be_staged(statement):
                rest = list(statements[k + 1 :])
                leaves = jumps([statement])
                if isinstance(statement, ast.If):
                    if leaves:
                        return new + self._branch_out(statement, rest, names, follow)
                    new += self._branch(statement)
                    continue
                new += self._loop(statement)
                if "return" in leaves:
                    return new + self._after_loop(statement, rest, names, follow)
                if statement.orelse:
                    new += self._loop_else(statement, rest, names, follow)
                    if jumps(statement.orelse):
                        return new
                continue
            new += self._plain(statement, names)
            if isinstance(statement, (ast.Return, ast.Break, ast.Continue, ast.Raise)):
                return new
        if follow is not None:
            takes = self._texts([argument.arg for argument in follow.args.args])
            end = self._call("go_on", self._load(follow.name), takes, self._locals())
            new.append(self._at(ast.Return(end), statements[-1] if statements else follow))
        elif names is not None:
            new.append(self._at(ast.Return(self._call("fell", self._locals())), statements[-1] if statements else None))
        return new

    def _may_be_staged(self, statement: ast.stmt) -> bool:
        """Whether the statement can become functions: not if functions that are defined elsewhere see the names it binds."""
        inside = [statement]
        if contains(inside, (ast.Yield, ast.YieldFrom, ast.Await, ast.NamedExpr, ast.Global, ast.Nonlocal)):
            return False
        found = Names(inside)
        return all(self.captured[name] == found.captured[name] for name in found.bound if name in self.locals)

    def _names(self, nodes: Sequence[ast.AST], names: list[str] | None = ()) -> list[str]:  # type: ignore[assignment]
        """The local names that matter to a block, those of the block around it first if it leaves that."""
        found = Names(nodes)
        around = sorted(self.locals) if names is None else list(names)
        inner = [name for name in {**found.read, **found.bound} if name in self.locals]
        return list(dict.fromkeys([*around, *inner]))

    def _branch(self, statement: ast.If) -> list[ast.stmt]:
        names = self._names([*statement.body, *statement.orelse])
        bound = self._bound([*statement.body, *statement.orelse])
        then, otherwise = (self._side(side, names, statement) for side in (statement.body, statement.orelse))
        call = self._branch_call(statement, then, otherwise, names)
        return [then, otherwise, *self._rebind(call, bound, statement)]

    def _branch_call(self, statement: ast.If, then: ast.FunctionDef, otherwise: ast.FunctionDef, names: list[str]) -> ast.expr:
        test = self.expression(statement.test)
        raises = ast.Constant(contains([*statement.body, *statement.orelse], (ast.Raise,)))
        return self._call("branch", test, *self._pair(then, otherwise), *self._state(names), raises)

    def _branch_out(
        self, statement: ast.If, rest: list[ast.stmt], names: list[str] | None, follow: ast.FunctionDef | None
    ) -> list[ast.stmt]:
        """A branch that may leave the block: what follows it goes into its sides."""
        inner = self._names([*statement.body, *statement.orelse, *rest], names)
        new: list[ast.stmt] = []
        if rest:
            follow = self._function("rest", inner, self.block(rest, inner, follow), rest[0])
            new.append(follow)
        sides = [self._side(side, inner, statement, follow) for side in (statement.body, statement.orelse)]
        call = self._branch_call(statement, sides[0], sides[1], inner)
        if names is None:
            call = self._call("done", call)
        return [*new, *sides, self._at(ast.Return(call), statement)]

    def _side(
        self, body: list[ast.stmt], names: list[str], at: ast.stmt, follow: ast.FunctionDef | None = None
    ) -> ast.FunctionDef:
        return self._function("side", names, self.block(body, names, follow), body[0] if body else at)

    def _loop(self, statement: ast.For | ast.While) -> list[ast.stmt]:
        self.loops += 1
        bound = self._bound([statement])
        pure = ast.Constant(not contains(statement.body, _IMPURE) and not _stores_attributes(statement.body))
        if isinstance(statement, ast.For):
            names = self._names([statement.target, *statement.body])
            item = PREFIX + "item"
            target = self._at(ast.Assign([statement.target], self._load(item)), statement)
            body = self._function("step", names, [target, *self.block(statement.body, names)], statement, item)
            call = self._call("each", self.expression(statement.iter), self._load(body.name), *self._state(names), pure)
            made = [body]
        else:
            names = self._names([statement.test, *statement.body])
            test = self._function("test", names, [self._at(ast.Return(self.expression(statement.test)), statement)], statement)
            body = self._function("step", names, self.block(statement.body, names), statement)
            call = self._call("repeat", *self._pair(test, body), *self._state(names), pure)
            made = [test, body]
        self.loops -= 1
        self.result = self._fresh("result")
        keep = self._at(ast.Assign([self._store(self.result)], call), statement)
        return [*made, keep, *self._rebind(self._load(self.result), bound, statement)]

    def _after_loop(
        self, statement: ast.For | ast.While, rest: list[ast.stmt], names: list[str] | None, after: ast.FunctionDef | None
    ) -> list[ast.stmt]:
        """What follows a loop that may return."""
        result = self.result
        inner = self._names([*statement.orelse, *rest], names)
        body = self._after_else(statement, rest, inner, result, after)
        follow = self._function("rest", inner, body, statement)
        call = self._call("after", self._load(result), self._load(follow.name), *self._state(inner))
        if names is None:
            call = self._call("done", call)
        return [follow, self._at(ast.Return(call), statement)]

    def _after_else(self, statement, rest: list[ast.stmt], inner: list[str], result: str, after) -> list[ast.stmt]:
        if not statement.orelse:
            return self.block(rest, inner, after)
        return self.block([self._else_branch(statement, result), *rest], inner, after)

    def _loop_else(self, statement, rest: list[ast.stmt], names: list[str] | None, follow) -> list[ast.stmt]:
        branch = self._else_branch(statement, self.result)
        if jumps(statement.orelse):
            return self._branch_out(branch, rest, names, follow)
        return self._branch(branch)

    def _else_branch(self, statement, result: str) -> ast.If:
        test = ast.UnaryOp(ast.Not(), self._call("was_broken", self._load(result)))
        return self._at(ast.If(test, statement.orelse, []), statement.orelse[0])

    # --- other statements

    def _plain(self, statement: ast.stmt, names: list[str] | None) -> list[ast.stmt]:
        match statement:
            case ast.Return(value) if names is None and value is not None:
                return [self._at(ast.Return(self._call("result", self.expression(value))), statement)]
            case ast.Return() if names is not None:
                value = ast.Constant(None) if statement.value is None else self.expression(statement.value)
                return [self._at(ast.Return(self._call("returned", value, self._locals())), statement)]
            case ast.Break() if names is not None:
                return [self._at(ast.Return(self._call("broke", self._locals())), statement)]
            case ast.Continue() if names is not None:
                return [self._at(ast.Return(self._call("skipped", self._locals())), statement)]
            case ast.Raise():
                return [self._at(ast.Expr(self._call("raising")), statement), self.expressions(statement)]
            case ast.Assert():
                message = ast.Constant(None) if statement.msg is None else self.expression(statement.msg)
                check = self._call("check", self.expression(statement.test), _lambda(message))
                return [self._at(ast.Expr(check), statement)]
            case ast.Assign([ast.Name(id=name)], ast.Call()) if name in self.stored and name in self.locals:
                new = self.expressions(statement)
                called = new.value.func  # type: ignore[attr-defined]
                if isinstance(called, ast.Call):
                    called.func.attr = "maker"  # type: ignore[attr-defined]
                return [new]
            case ast.Assign([ast.Subscript() as target], value):
                parts = self.expression(target.value), self._index(target.slice), self.expression(value)
                return [self._at(ast.Expr(self._call("store", *parts)), statement)]
            case ast.AugAssign(ast.Subscript() as target, op, value):
                parts = self.expression(target.value), self._index(target.slice), self.expression(value)
                return [self._at(ast.Expr(self._call("store_changed", _operator(op), *parts)), statement)]
            case ast.AugAssign(ast.Name() as target, op, value) if target.id in self.locals:
                changed = self._call("changed", _operator(op), self._load(target.id), self.expression(value))
                return [self._at(ast.Assign([target], changed), statement)]
            case ast.FunctionDef():
                inner = rewritten(_without_defaults(statement))
                assert isinstance(inner, ast.FunctionDef)
                inner.args.defaults = [self.expression(d) for d in statement.args.defaults]
                inner.args.kw_defaults = [None if d is None else self.expression(d) for d in statement.args.kw_defaults]
                inner.decorator_list = [self.expression(d) for d in statement.decorator_list]
                return [inner]
        if isinstance(statement, (*_OPAQUE, ast.If, ast.For, ast.While)):
            return [_Calls(self).inside(statement)]
        return [self.expressions(statement)]

    def expressions(self, statement: ast.stmt) -> ast.stmt:
        """The statement with its expressions rewritten."""
        return _Expressions(self).visit(statement)

    def expression(self, node: ast.expr) -> ast.expr:
        return _Expressions(self).visit(node)

    def _index(self, node: ast.expr) -> ast.expr:
        """A subscript as an expression of its own: slices are made by a call."""
        if isinstance(node, ast.Slice):
            parts = [ast.Constant(None) if p is None else self.expression(p) for p in (node.lower, node.upper, node.step)]
            return ast.copy_location(self._call("slice", *parts), node)
        if isinstance(node, ast.Tuple):
            return ast.copy_location(ast.Tuple([self._index(part) for part in node.elts], ast.Load()), node)
        return self.expression(node)

    # --- pieces

    def _function(
        self, stem: str, names: list[str], body: list[ast.stmt], at: ast.AST, item: str | None = None
    ) -> ast.FunctionDef:
        """A block as a function of `names`, those that have no value yet unbound again."""
        parameters = [ast.arg(name) for name in ([item] if item else []) + names]
        unbind = self._unbound(names)
        arguments = ast.arguments([], parameters, None, [], [], None, [])
        new = defined(self._fresh(stem), arguments, [*unbind, *body])
        for part in unbind:
            self._at(part, at)
        return self._at(new, at)

    def _rebind(self, call: ast.expr, bound: list[str], at: ast.stmt) -> list[ast.stmt]:
        """The names that a block has bound get their values; those that it left unbound are unbound."""
        if not bound:
            return [self._at(ast.Expr(call), at)]
        target = ast.Tuple([self._store(name) for name in bound], ast.Store())
        take = ast.Assign([target], self._call("values", call, self._texts(bound)))
        return [self._at(part, at) for part in (take, *self._unbound(bound))]

    def _unbound(self, names: list[str]) -> list[ast.stmt]:
        """Names that hold the sign for "no value" have none."""
        sign = ast.Attribute(self._load(HELPER), "UNBOUND", ast.Load())
        return [
            ast.If(ast.Compare(self._load(name), [ast.Is()], [sign]), [ast.Delete([ast.Name(name, ast.Del())])], [])
            for name in names
        ]

    def _bound(self, nodes: Sequence[ast.AST]) -> list[str]:
        return [name for name in Names(nodes).bound if name in self.locals]

    def _state(self, names: list[str]) -> list[ast.expr]:
        return [self._texts(names), self._locals()]

    def _pair(self, *functions: ast.FunctionDef) -> list[ast.expr]:
        return [self._load(function.name) for function in functions]

    def _fresh(self, stem: str) -> str:
        self.count += 1
        return f"{PREFIX}{stem}{self.count}"

    @staticmethod
    def _load(name: str) -> ast.expr:
        return ast.Name(name, ast.Load())

    @staticmethod
    def _store(name: str) -> ast.expr:
        return ast.Name(name, ast.Store())

    @staticmethod
    def _texts(names: list[str]) -> ast.expr:
        return ast.Tuple([ast.Constant(name) for name in names], ast.Load())

    @staticmethod
    def _locals() -> ast.expr:
        return ast.Call(ast.Name("locals", ast.Load()), [], [])

    def _call(self, name: str, *arguments: ast.expr) -> ast.Call:
        return ast.Call(ast.Attribute(self._load(HELPER), name, ast.Load()), list(arguments), [])

    @staticmethod
    def _at(node, at: ast.AST | None):
        if at is not None:
            ast.copy_location(node, at)
            node.end_lineno, node.end_col_offset = node.lineno, node.col_offset
        return ast.fix_missing_locations(node)


class _Expressions(ast.NodeTransformer):
    """Calls, conditional expressions, `and`, `or`, `not` and chains of comparisons."""

    def __init__(self, function: _Function):
        self.function = function

    def visit_FunctionDef(self, node):
        return node

    visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda):
        defaults = [self.visit(d) for d in node.args.defaults]
        kw_defaults = [None if d is None else self.visit(d) for d in node.args.kw_defaults]
        new = rewritten(ast.copy_location(ast.Lambda(node.args, node.body), node))
        new.args.defaults, new.args.kw_defaults = defaults, kw_defaults
        return new

    def _made(self, node: ast.AST, name: str, *arguments: ast.expr) -> ast.expr:
        return ast.copy_location(self.function._call(name, *arguments), node)

    def visit_Call(self, node: ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in _FRAME_READERS:
            return self.generic_visit(node)
        self.generic_visit(node)
        node.func = self._made(node.func, "call", node.func)
        return node

    def visit_Subscript(self, node: ast.Subscript):
        if not isinstance(node.ctx, ast.Load) or contains([node.slice], (ast.NamedExpr, ast.Await, ast.Yield, ast.Starred)):
            return self.generic_visit(node)
        return self._made(node, "item", self.visit(node.value), self.function._index(node.slice))

    def visit_IfExp(self, node: ast.IfExp):
        if contains([node], (ast.NamedExpr, ast.Await, ast.Yield)):
            return self.generic_visit(node)
        self.generic_visit(node)
        return self._made(node, "either", node.test, _lambda(node.body), _lambda(node.orelse))

    def visit_BoolOp(self, node: ast.BoolOp):
        if contains([node], (ast.NamedExpr, ast.Await, ast.Yield)):
            return self.generic_visit(node)
        self.generic_visit(node)
        name = "both" if isinstance(node.op, ast.And) else "any_of"
        return self._made(node, name, node.values[0], *(_lambda(value) for value in node.values[1:]))

    def visit_UnaryOp(self, node: ast.UnaryOp):
        self.generic_visit(node)
        return self._made(node, "negated", node.operand) if isinstance(node.op, ast.Not) else node

    def visit_Compare(self, node: ast.Compare):
        if len(node.ops) == 1 and not isinstance(node.ops[0], (ast.In, ast.NotIn)):
            return self.generic_visit(node)
        if contains([node], (ast.NamedExpr, ast.Await, ast.Yield)):
            return self.generic_visit(node)
        self.generic_visit(node)
        if len(node.ops) == 1:
            return node
        steps = []
        for op, comparator in zip(node.ops, node.comparators, strict=True):
            arguments = ast.arguments([], [ast.arg("a"), ast.arg("b")], None, [], [], None, [])
            compared = ast.Compare(ast.Name("a", ast.Load()), [op], [ast.Name("b", ast.Load())])
            steps.append(ast.Tuple([ast.Lambda(arguments, compared), _lambda(comparator)], ast.Load()))
        return ast.fix_missing_locations(self._made(node, "compared", node.left, *steps))


class _Calls(_Expressions):
    """Only the expressions of statements that stay statements, at any depth."""

    def inside(self, statement: ast.stmt) -> ast.stmt:
        self.generic_visit(statement)
        return statement

    def visit_FunctionDef(self, node):
        return self.function._plain(node, None)


def _lambda(body: ast.expr) -> ast.expr:
    return ast.copy_location(ast.Lambda(ast.arguments([], [], None, [], [], None, []), body), body)


def _operator(op: ast.operator) -> ast.expr:
    return ast.Constant(type(op).__name__)


def _stored_into(nodes: Sequence[ast.AST]) -> set[str]:
    """The names of arrays into which elements are stored."""
    stores = [n for root in nodes for n in ast.walk(root) if isinstance(n, ast.Subscript) and isinstance(n.ctx, ast.Store)]
    return {name for node in stores if (name := root_of(node)) is not None}


def _stores_attributes(nodes: Sequence[ast.AST]) -> bool:
    attributes = [node for root in nodes for node in ast.walk(root) if isinstance(node, ast.Attribute)]
    return any(isinstance(node.ctx, (ast.Store, ast.Del)) for node in attributes)


def _without_defaults(node: ast.FunctionDef) -> ast.FunctionDef:
    args = node.args
    bare = ast.arguments(args.posonlyargs, args.args, args.vararg, args.kwonlyargs, args.kw_defaults, args.kwarg, args.defaults)
    return ast.copy_location(defined(node.name, bare, node.body), node)
