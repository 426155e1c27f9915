"""Rules about code that no off-the-shelf linter knows. Each says what it forbids in its name."""

import ast
import re
import sys

import pytest
from housekeeping import DOMAINS, SOURCE, domain_of, imports_of, python_files, shown, tree_of

MOST_LINES_IN_A_FILE = 500
MOST_LINES_IN_A_FUNCTION = 70
PURE = {"msgspec", *sys.stdlib_module_names}
MOUNTED_BY_ENTRY = {"routes", "tasks", "commands", "gateway"}


@pytest.mark.parametrize("path", sorted(SOURCE.glob("*/rules.py")), ids=shown)
def test_rules_are_pure(path):
    impure = [
        module
        for module, _ in imports_of(path)
        if module.split(".")[0] not in PURE
        and not module.startswith(("quanhui.base", f"quanhui.{domain_of(path)}"))
    ]
    assert not impure
    assert not [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.AsyncFunctionDef)]


def test_no_domain_opens_or_ends_a_transaction():
    """Shells do: a route through `call.command` or `in_transaction`, a task of the worker for itself."""
    shells = {"routes.py", "tasks.py", "commands.py"}
    endings = {"transaction", "in_transaction", "commit", "rollback"}
    found = [
        f"{shown(path)}:{node.lineno} {ast.unparse(node.func)}"
        for path in python_files("src/quanhui")
        if domain_of(path) and path.name not in shells
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in endings
    ]
    assert not found


def test_other_domains_are_imported_through_their_root_only():
    found = []
    for path in python_files("src/quanhui"):
        home = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        for module, _ in imports_of(path):
            parts = module.split(".")
            if parts[0] != "quanhui" or len(parts) < 3 or parts[1] not in DOMAINS or parts[1] == home:
                continue
            if home in {"entry", "story"} and parts[2] in MOUNTED_BY_ENTRY:
                continue
            found.append(f"{shown(path)}: {module}")
    assert not found


def is_money(node):
    name = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "arg", None) or ""
    return name.endswith("_fen") or name == "fen"


def test_money_is_never_a_float():
    found = []
    for path in python_files("src/quanhui"):
        for node in ast.walk(tree_of(path)):
            match node:
                case ast.AnnAssign(target=target) if is_money(target):
                    bad = "float" in ast.unparse(node.annotation)
                case ast.arg(annotation=ast.expr()) if is_money(node):
                    bad = "float" in ast.unparse(node.annotation)
                case ast.BinOp(op=ast.Div()):
                    bad = is_money(node.left) or is_money(node.right)
                case ast.Call(func=ast.Name(id="float" | "round"), args=[argument, *_]):
                    bad = is_money(argument)
                case _:
                    continue
            if bad:
                found.append(f"{shown(path)}:{node.lineno} {ast.unparse(node)}")
    assert not found


def test_files_and_functions_fit_on_their_screens():
    found = []
    for path in python_files("src", "tests", "benches"):
        lines = len(path.read_text().splitlines())
        if lines > MOST_LINES_IN_A_FILE:
            found.append(f"{shown(path)}: {lines} lines")
        found += [
            f"{shown(path)}:{node.lineno} {node.name}: {length} lines"
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and (length := (node.end_lineno or 0) - node.lineno + 1) > MOST_LINES_IN_A_FUNCTION
        ]
    assert not found


def replaces_code(call):
    """Whether a call patches code. A limit, in capitals, may be lowered: what runs is still ours."""
    if not re.fullmatch(r"(monkeypatch|mp|patch)\.(setattr|delattr)", ast.unparse(call.func)):
        return False
    names = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return not names or not names[0].split(".")[-1].isupper()


def test_no_test_replaces_our_own_code():
    found = []
    for path in python_files("tests"):
        if any(module.startswith(("unittest.mock", "mock")) for module, _ in imports_of(path)):
            found.append(shown(path))
        found += [
            f"{shown(path)}:{node.lineno} {ast.unparse(node)}"
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Call) and replaces_code(node)
        ]
    assert not found


def test_every_domain_tells_its_tale_and_names_its_door():
    for domain in DOMAINS:
        tree = tree_of(SOURCE / domain / "__init__.py")
        assert len(ast.get_docstring(tree) or "") > 200, f"{domain} tells nothing"
        assigned = {ast.unparse(node.targets[0]) for node in tree.body if isinstance(node, ast.Assign)}
        assert "__all__" in assigned, f"{domain} does not say what it exports"
