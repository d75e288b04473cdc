"""The shape of the package: rooms in order, a quiet import, one reader of the environment."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src/nerite"

#: A room may import only rooms before it. `_core` is the seam; the package is imported by none.
ROOMS = [
    "_core",
    "errors",
    "tensors",
    "downloads",
    "storage_initializer",
    "config",
    "stores",
    "backends",
    "models",
    "server",
    "kserve",
    "local",
    "testing",
    "cli",
    "__main__",
]

#: What importing any single part of Nerite must never load.
HEAVY = {"onnxruntime", "onnx", "torch", "tensorflow", "pandas", "pydantic", "PIL", "grpc", "rich"}
HEAVY |= {"joblib", "obstore", "lightgbm", "scipy", "sklearn", "skops", "xgboost"}


def modules() -> Iterator[tuple[str, Path]]:
    """Dotted name (without `nerite.`) and file of every module."""
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


def imported(path: Path, name: str) -> Iterator[str]:
    """Modules of Nerite that a file imports, type-only and in-function imports included."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (a.name.removeprefix("nerite.") for a in node.names if is_ours(a.name))
        elif isinstance(node, ast.ImportFrom):
            base = (node.module or "").split(".") if node.module else []
            if node.level:
                base = ["nerite", *package[: len(package) - node.level + 1], *base]
            if base[:1] == ["nerite"]:
                yield from (deepest([*base[1:], alias.name]) for alias in node.names)


def is_ours(name: str) -> bool:
    return name == "nerite" or name.startswith("nerite.")


def deepest(parts: list[str]) -> str:
    """The module that `from a.b import c` reaches: `a.b.c` if that is a module, else `a.b`."""
    full = ".".join(parts)
    return full if full in MODULES or full == "_core" else ".".join(parts[:-1])


def test_there_is_a_package_to_look_at() -> None:
    assert len(MODULES) > 20


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_a_room_imports_only_rooms_above_it(name: str) -> None:
    room = name.split(".", maxsplit=1)[0]
    assert room in ROOMS, f"'{room}' is no known room: add it to ROOMS, in its place"
    allowed = ROOMS[: ROOMS.index(room) + 1]
    for other in imported(MODULES[name], name):
        target = other.split(".")[0]
        assert target in allowed, f"nerite.{name} imports nerite.{other}"


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {
        name: {other for other in imported(path, name) if other in MODULES and other != name}
        for name, path in MODULES.items()
        if path.name != "__init__.py"
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_only_the_rooms_at_the_seam_touch_the_extension() -> None:
    users = {
        name.split(".")[0] for name, path in MODULES.items() if "_core" in imported(path, name)
    }
    assert users <= {"tensors", "backends", "models", "server", "kserve", "testing", "cli"}


def test_importing_nerite_starts_nothing_and_loads_no_framework() -> None:
    code = (
        "import sys, threading\n"
        "import nerite\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
        "import logging\n"
        "assert not logging.getLogger().handlers and not logging.getLogger('nerite').handlers\n"
        f"loaded = {HEAVY | {'numpy', 'google.protobuf', 'typer', 'yaml'}!r} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_public_names_are_few_and_all_there() -> None:
    import nerite

    names = nerite.__all__
    assert 1 <= len(names) <= 25
    assert sorted(set(names)) == sorted(names)
    for name in names:
        assert getattr(nerite, name) is not None


def test_the_environment_is_read_in_one_module_of_each_process() -> None:
    readers = {name for name, path in MODULES.items() if reads_environment(path)}
    assert readers <= {"server.environment", "storage_initializer"}


def test_the_storage_initializer_starts_without_the_data_plane_and_pydantic() -> None:
    code = (
        "import sys\n"
        "import nerite.storage_initializer\n"
        f"loaded = {HEAVY | {'numpy', 'google.protobuf', 'nerite._core', 'typer'}!r}\n"
        "assert not loaded & set(sys.modules), loaded & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def reads_environment(path: Path) -> bool:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv"):
            return True
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            return any(alias.name in ("environ", "environb", "getenv") for alias in node.names)
    return False


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_every_module_says_what_it_is_for(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text())
    assert ast.get_docstring(tree), f"nerite.{name} has no docstring"
