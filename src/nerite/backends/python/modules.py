# SPDX-License-Identifier: Apache-2.0
"""Import a model's `model.py` and what lies beside it, without the models seeing each other.

Each model version gets a package of its own with a unique name, whose path is the version's folder
and the model's folder. Relative imports work in it by nature; for absolute ones (`import helper`)
every module of the package is given an `__import__` that looks in the package first. So two
models may both have a `helper.py`, may import it late, and pickling their classes still works.
`importlib.import_module("helper")` cannot be told apart by caller and is not redirected.

No byte code is written: model folders may be read-only, and their times mean something.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import itertools
import re
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

_ROOT = "nerite_models"
_numbers = itertools.count()
_install_lock = threading.Lock()


class ModelModules:
    """The modules of one model version."""

    def __init__(self, name: str, folders: Sequence[Path]) -> None:
        self._package = f"{_ROOT}.{re.sub(r'[^0-9A-Za-z_]', '_', name)}_{next(_numbers)}"
        self._folders = [str(folder) for folder in folders]
        self._builtins = {**vars(builtins), "__import__": self._import}

    def load(self, file: Path) -> ModuleType:
        """Runs a source file as a module of the package and returns it."""
        self._open()
        name = f"{self._package}.{file.stem}"
        if name not in sys.modules:
            loader = _Loader(name, str(file), self._builtins)
            spec = importlib.util.spec_from_file_location(name, file, loader=loader)
            if spec is None:
                raise ImportError(f"'{file}' cannot be imported as a module", path=str(file))
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            try:
                loader.exec_module(module)
            except BaseException:
                del sys.modules[name]
                raise
        return sys.modules[name]

    def close(self) -> None:
        """Forgets the modules; objects that are still in use keep theirs."""
        _finder.folders.pop(self._package, None)
        inside = f"{self._package}."
        for name in [n for n in sys.modules if n == self._package or n.startswith(inside)]:
            del sys.modules[name]

    def _open(self) -> None:
        with _install_lock:
            if _finder not in sys.meta_path:
                sys.meta_path.insert(0, _finder)
            if _ROOT not in sys.modules:
                root = ModuleType(_ROOT, "Packages of the Python models that are loaded.")
                root.__path__ = []
                sys.modules[_ROOT] = root
            if self._package not in sys.modules:
                package = ModuleType(self._package)
                package.__path__ = self._folders
                package.__dict__["__builtins__"] = self._builtins
                sys.modules[self._package] = package
            _finder.folders[self._package] = self._builtins

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - the names of __import__
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        """`__import__` as the modules of this package see it."""
        if level == 0 and self._has(name.partition(".")[0]):
            inner = f"{self._package}.{name}"
            if fromlist:
                return builtins.__import__(inner, globals, locals, fromlist, 0)
            importlib.import_module(inner)
            return sys.modules[f"{self._package}.{name.partition('.')[0]}"]
        return builtins.__import__(name, globals, locals, fromlist, level)

    def _has(self, top: str) -> bool:
        """Whether the model brings a module of that name; the standard library comes first."""
        if top in sys.stdlib_module_names:
            return False
        if f"{self._package}.{top}" in sys.modules:
            return True
        spec = PathFinder.find_spec(top, self._folders)
        # A folder without __init__.py is data more often than a package: it must not hide an
        # installed package of the same name.
        return spec is not None and (spec.loader is not None and spec.origin is not None)


class _Loader(SourceFileLoader):
    """Runs a model's source with the model's own `__import__`."""

    def __init__(self, name: str, path: str, builtins_: dict[str, Any]) -> None:
        super().__init__(name, path)
        self._builtins = builtins_

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = self._builtins
        super().exec_module(module)


class _Finder(MetaPathFinder):
    """Finds modules below our packages, and gives their sources the loader above."""

    def __init__(self) -> None:
        self.folders: dict[str, dict[str, Any]] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{_ROOT}."):
            return None
        own = self.folders.get(".".join(fullname.split(".")[:2]))
        spec = PathFinder.find_spec(fullname, path, target)
        if own is not None and spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path, own)
            spec.cached = None
        return spec


_finder = _Finder()
