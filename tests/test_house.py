"""The rooms of clm: which way imports point, how many modules a room has, and that each says what it is for."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# The modules beside the rooms, and the rooms. Each may import itself and those before it.
PLACES = [
    *("errors", "files", "rollback", "progress", "cores", "numbers", "config", "data", "model", "launch", "training"),
    *("evaluation", "runs", "explain", "plan", "report", "sweep", "hub", "commands", "__main__"),
]
LARGEST_ROOM = 15  # modules, besides __init__
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "clm").rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in SOURCES.items()}
UP = re.compile(r"Path\(__file__\)(?:\.\w+\(\))*(?:((?:\.parent\b)+)|\.parents\[(\d+)\])")


def imports(tree: ast.AST) -> set[str]:
    """The modules that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written out in full"
            full = [f"{node.module}.{name.name}" for name in node.names]
            found |= {name if name in SOURCES else node.module for name in full}
    return found


def folders_up(code: str) -> list[int]:
    """How many folders each `Path(__file__).parent.parent` or `….parents[1]` goes up (those: 2)."""
    return [parents.count(".") or int(index) + 1 for parents, index in UP.findall(code)]


def reads_the_command_line(tree: ast.AST) -> bool:
    """By sys.argv itself, or by argparse where it is given no words."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "argv":
            return True
        if isinstance(node, ast.ImportFrom) and node.module == "sys" and "argv" in {name.name for name in node.names}:
            return True
        if isinstance(node, ast.Call) and not node.args and getattr(node.func, "attr", "") == "parse_args":
            return True
    return False


def place(module: str) -> int:
    return PLACES.index(module.split(".")[1])


IMPORTS = {name: imports(tree) for name, tree in TREES.items()}
OURS = {name: {other for other in all_ if other.split(".")[0] == "clm"} for name, all_ in IMPORTS.items()}


def test_every_room_has_its_place_in_the_order():
    assert {name.split(".")[1] for name in SOURCES if name != "clm"} == set(PLACES)


def test_imports_point_one_way():
    backwards = [f"{name} imports {other}" for name in OURS for other in OURS[name] if place(other) > place(name)]
    assert backwards == []


def test_no_modules_import_each_other_in_a_circle():
    try:
        TopologicalSorter(OURS).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_library_knows_neither_tests_nor_mocks():
    foreign = re.compile(r"(tests|benchmarks|calibration|run_clm|unittest\.mock)\b")
    assert [f"{name} imports {other}" for name in IMPORTS for other in IMPORTS[name] if foreign.match(other)] == []


def test_only_the_two_programs_read_the_command_line():
    program = ast.parse((ROOT / "run_clm.py").read_text("utf-8"))
    assert reads_the_command_line(program)
    assert [name for name, tree in TREES.items() if reads_the_command_line(tree)] == ["clm.__main__"]


def test_no_module_reaches_out_of_the_library_by_counting_folders():
    out = []
    for name, tree in TREES.items():
        depth = len(SOURCES[name].relative_to(ROOT).parts) - 1  # so many folders up is clm itself
        out += [name for up in folders_up(ast.unparse(tree)) if up > depth]
    assert out == []


def test_counted_folders_are_found():
    assert folders_up("Path(__file__).parent / 'x'") == [1]
    assert folders_up("a = Path(__file__).resolve().parent.parent / 'x'; Path(__file__).parents[1]") == [2, 2]
    assert folders_up("Path(name).parent.parent") == []


def test_a_room_is_small_and_says_in_a_line_what_it_is_for():
    for folder in {path.parent for path in SOURCES.values()}:
        modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
        assert len(modules) <= LARGEST_ROOM, folder
        purpose = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8")))
        first, _, rest = (purpose or "").partition("\n")
        assert first.endswith(".") and rest[:1] in ("", "\n"), folder
