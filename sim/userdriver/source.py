# SPDX-License-Identifier: BSD-2-Clause
"""Finds the driver in a user's file.

A file defines exactly one of three coroutines, and which one says against what it is written::

    async def driver_entry(kernel, device)   # WDK: driver.wdk.Kernel
    async def probe(dev, device)             # Linux: driver.linux.Device
    async def main(machine, device)          # bare metal: driver.bare.Machine

``device`` is a :class:`driver.storage_port.StoragePort`. :func:`inspect_file` reads the text only: nothing of the user's is
executed outside the simulator process, where time is limited. :func:`load_file` and :func:`load_function` import.
"""

import ast
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["ENTRIES", "STYLES", "DriverFileError", "UserDriver", "inspect_file", "load_file", "load_function", "style_of"]

#: Name of the coroutine, by style.
ENTRIES = {"wdk": "driver_entry", "linux": "probe", "bare": "main"}
#: First parameter by style: examples, whose functions are called ``broken`` and ``fixed``, are told apart by it.
STYLES = {"kernel": "wdk", "dev": "linux", "machine": "bare"}
_SIGNATURES = {"wdk": "(kernel, device)", "linux": "(dev, device)", "bare": "(machine, device)"}
_MAX_BYTES = 1 << 20


class DriverFileError(ValueError):
    """A file is no driver; the text names the file, the line where there is one, and the rule."""


@dataclass(frozen=True)
class UserDriver:
    """A driver that was found: where, against which interface (``wdk``, ``linux``, ``bare``), and, once loaded, its coroutine."""

    path: str
    style: str
    name: str
    entry: Callable[[Any, Any], Awaitable[Any]] | None = None


def _rule() -> str:
    return ", ".join(f"'async def {name}{_SIGNATURES[style]}'" for style, name in ENTRIES.items())


def inspect_file(path: str | Path) -> UserDriver:
    """Checks the text of a driver file; :attr:`UserDriver.entry` stays None.

    Raises
    ------
    DriverFileError
        If the file is missing, is no Python, or does not define exactly one of the coroutines with two parameters.
    """
    path = Path(path)
    tree = _parse(path)
    found = [(name, node) for name, node in _bindings(tree) if name in ENTRIES.values()]
    names = list(dict.fromkeys(name for name, _ in found))
    if not names:
        raise DriverFileError(f"{path}: a driver must define exactly one of {_rule()}, not none of them")
    if len(names) > 1:
        lines = ", ".join(f"{name} in line {node.lineno}" for name, node in found)
        raise DriverFileError(f"{path}: a driver must define exactly one of {', '.join(ENTRIES.values())}, not {lines}")
    name, node = found[-1]
    style = next(style for style, entry in ENTRIES.items() if entry == name)
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        what = "a plain function" if isinstance(node, ast.FunctionDef) else "a class"
        raise DriverFileError(f"{path}:{node.lineno}: {name} must be a coroutine ('async def {name}'), not {what}")
    if isinstance(node, ast.AsyncFunctionDef):
        if any(isinstance(part, ast.Yield | ast.YieldFrom) for part in _own_nodes(node)):
            raise DriverFileError(f"{path}:{node.lineno}: {name} must be a coroutine, not a generator: it must not yield")
        positional = [*node.args.posonlyargs, *node.args.args]
        needed = len(positional) - len(node.args.defaults)
        keyword = [a for a, default in zip(node.args.kwonlyargs, node.args.kw_defaults) if default is None]
        if needed > 2 or (len(positional) < 2 and not node.args.vararg) or keyword:
            count = len(positional) + len(keyword)
            raise DriverFileError(
                f"{path}:{node.lineno}: {name} must take two parameters {_SIGNATURES[style]}, not {count or 'none'}"
            )
    return UserDriver(str(path), style, name)


def _parse(path: Path) -> ast.Module:
    try:
        if path.is_dir():
            raise DriverFileError(f"driver must be a Python file, not the folder {str(path)!r}")
        if path.stat().st_size > _MAX_BYTES:
            raise DriverFileError(
                f"driver must be a file of at most {_MAX_BYTES} bytes, not {path.stat().st_size} ({str(path)!r})"
            )
        data = path.read_bytes()
    except OSError as error:
        raise DriverFileError(f"driver must be a readable file, not {str(path)!r}: {error.strerror}") from None
    try:
        return ast.parse(data, filename=str(path))
    except SyntaxError as error:
        raise DriverFileError(f"{path}:{error.lineno or 1}: a driver must be Python: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes, brackets without end
        raise DriverFileError(f"{path}: a driver must be Python: {error}") from None


def _bindings(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    """Names bound at the top level, with the statement that does it."""
    for node in tree.body:
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, node
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, node


def _own_nodes(function: ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    """All nodes of a function but those of functions inside it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting += list(ast.iter_child_nodes(node))


def load_file(path: str | Path) -> UserDriver:
    """Imports a driver file; its folder is importable, as if it were run as a script.

    Raises
    ------
    DriverFileError
        As :func:`inspect_file`; and if what the name is bound to is no coroutine function, which only the import shows.
    Exception
        Whatever the file's own top-level code raises.
    """
    found = inspect_file(path)
    path = Path(path).resolve()
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(f"flushpoint_driver_{abs(hash(path)):x}", path)
    if spec is None or spec.loader is None:
        raise DriverFileError(f"driver must be a Python file (.py), not {str(path)!r}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return UserDriver(str(path), found.style, found.name, _coroutine(module, found.name, str(path)))


def load_function(target: str) -> UserDriver:
    """The driver ``package.module:function`` of an example; its first parameter's name says its style.

    Raises
    ------
    DriverFileError
        If there is no such coroutine function, or its parameters are not one of the three pairs.
    """
    module_name, _, name = target.partition(":")
    module = importlib.import_module(module_name)
    entry = _coroutine(module, name, module_name)
    return UserDriver(str(module.__file__), style_of(entry, target), name, entry)


def style_of(entry: Callable[..., Any], where: str) -> str:
    """The interface that a coroutine is written against, by the name of its first parameter. It may have parameters with a
    default beside the two (an example's ``unlucky=True``): nobody passes them."""
    parameters = [name for name, each in inspect.signature(entry).parameters.items() if each.default is each.empty]
    if len(parameters) != 2 or parameters[0] not in STYLES:
        raise DriverFileError(
            f"{where} must take {', '.join(_SIGNATURES.values())} (the first name says the style), not ({', '.join(parameters)})"
        )
    return STYLES[parameters[0]]


def _coroutine(module: ModuleType, name: str, where: str) -> Callable[[Any, Any], Awaitable[Any]]:
    entry = getattr(module, name, None)
    if not inspect.iscoroutinefunction(entry):
        raise DriverFileError(f"{where}: {name} must be a coroutine ('async def {name}'), not {type(entry).__name__}")
    return entry
