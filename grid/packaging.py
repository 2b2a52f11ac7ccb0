"""What a Ray job takes along: the sweep, and the strategy's own modules. Nothing else of the folder it is sent from."""

import ast
import importlib.util
import json
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType

from grid.errors import BadInput
from grid.spec import Sweep
from strategies import Strategy
from strategies.registry import get

MOST_BYTES = 50_000_000
"""Ray refuses 100 MiB; modules are kilobytes, so what is larger was not meant to be sent."""
SWEEP_FILE = "sweep.json"
_OURS = ("grid", "storage", "strategies")


def pack(sweep: Sweep, folder: Path) -> list[Path]:
    """Put the sweep and the modules of its strategy into `folder`; the files, relative to it.

    Raises BadInput where a module imports one of the user's that is not declared in `depends_on`, and above 50 MB.
    """
    (folder / SWEEP_FILE).write_text(json.dumps(sweep.model_dump(mode="json"), indent=1))
    for name, file in sources(get(sweep.strategy)).items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    check_size({str(file): (folder / file).stat().st_size for file in files})
    return files


def sources(strategy: type[Strategy]) -> dict[str, Path]:
    """Files to send for a strategy: the name below the working directory, and where it is.

    The modules of its class and of those it inherits from, and those in `depends_on`, each with the `__init__.py` of
    the packages around it; none that belongs to an installed distribution.
    """
    modules = {name: sys.modules[name] for name in sorted(_modules(strategy)) if not installed(sys.modules[name])}
    files: dict[str, Path] = {}
    for name, module in modules.items():
        files |= _files(name, module)
    for name, module in modules.items():
        _check_imports(name, _file(module), set(files))
    return files


def installed(module: ModuleType) -> bool:
    """Whether a module comes with Python, with this package or with another distribution."""
    if _known(module.__name__):
        return True
    file = getattr(module, "__file__", None)
    return file is None or _below(Path(file), _library_folders())


def check_size(sizes: dict[str, int]) -> None:
    """Raises BadInput, with the largest files, for more than 50 MB."""
    total = sum(sizes.values())
    if total > MOST_BYTES:
        largest = sorted(sizes.items(), key=lambda item: -item[1])[:5]
        listed = ", ".join(f"{name} ({size / 1e6:,.0f} MB)" for name, size in largest)
        raise BadInput(
            f"the job would take {total / 1e6:,.0f} MB along and {MOST_BYTES / 1e6:.0f} MB are allowed; the largest: "
            f"{listed}. Put data into a store, not into modules."
        )


def _known(name: str) -> bool:
    """Whether the top package of a module is Python's, ours, or that of a distribution."""
    top = name.partition(".")[0]
    return top in _OURS or top in sys.stdlib_module_names or top in _distributed()


@cache
def _distributed() -> frozenset[str]:
    """Top packages of all installed distributions."""
    return frozenset(packages_distributions())


def _modules(strategy: type[Strategy]) -> Iterator[str]:
    for base in strategy.__mro__:
        if base not in Strategy.__mro__:
            yield base.__module__
    for module in strategy.depends_on:
        yield module.__name__


def _files(name: str, module: ModuleType) -> dict[str, Path]:
    """The module's file and the `__init__.py` of every package around it, by name below the working directory."""
    file, parts = _file(module), name.split(".")
    inside = [*parts, "__init__.py"] if file.name == "__init__.py" else [*parts[:-1], f"{parts[-1]}{file.suffix}"]
    found = {"/".join(inside): file}
    for depth in range(1, len(parts)):
        package = _file(sys.modules[".".join(parts[:depth])])
        if package.name == "__init__.py":
            found["/".join([*parts[:depth], "__init__.py"])] = package
    return found


def _file(module: ModuleType) -> Path:
    """Where a module lies; the folder of a package without `__init__.py`."""
    if module.__file__ is not None:
        return Path(module.__file__)
    return Path(next(iter(module.__path__)))


def _check_imports(name: str, file: Path, sent: set[str]) -> None:
    """Raises BadInput for an import that the cluster could not follow."""
    for imported in _imported(name, file):
        spec = _spec(imported)
        if spec is None or spec.origin is None or spec.origin in ("built-in", "frozen"):
            continue
        if _known(imported) or _below(Path(spec.origin), _library_folders()):
            continue
        as_file = imported.replace(".", "/")
        if not {f"{as_file}.py", f"{as_file}/__init__.py"} & sent:
            raise BadInput(
                f"strategy module {name} imports {imported}, which is no installed package and would be missing on "
                f"the cluster: declare it in the strategy, `depends_on = ({imported.rpartition('.')[2]},)`. Then it "
                "is sent along, and its source counts for the fingerprint."
            )


def _imported(name: str, file: Path) -> Iterator[str]:
    """Absolute names of the modules that a file imports."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = importlib.util.resolve_name("." * node.level + base, package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names if _is_module(f"{base}.{alias.name}"))


def _is_module(name: str) -> bool:
    return _spec(name) is not None


def _spec(name: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None


def _library_folders() -> list[Path]:
    paths = sysconfig.get_paths()
    return [Path(paths[kind]).resolve() for kind in ("stdlib", "platstdlib", "purelib", "platlib")]


def _below(file: Path, folders: Iterable[Path]) -> bool:
    return any(file.resolve().is_relative_to(folder) for folder in folders)
