"""Search methods that choose points: one contract (`base.py`), one module a family, found by name here.

What a method needs besides the run dependencies is the extra `search`. It is imported when a method is asked, in the
driver alone: workers are sent points, and readers find them in the rows.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from grid.errors import BadInput
from grid.methods.base import Method

_MODULES = {
    "sobol": "grid.methods.designs:Sobol",
    "lhs": "grid.methods.designs:LatinHypercube",
    "tpe": "grid.methods.by_optuna:Tpe",
    "nsga2": "grid.methods.by_optuna:Nsga2",
    "cmaes": "grid.methods.evolution:CmaEs",
    "local": "grid.methods.local:Local",
}
_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "sobol": ("scipy",),
    "lhs": ("scipy",),
    "tpe": ("optuna",),
    "nsga2": ("optuna",),
    "cmaes": ("cmaes",),
}


def method_of(name: str) -> Method:
    """The method with that name, one of those in `_MODULES`. Raises BadInput where a package it needs is missing."""
    searched_with(name)
    module, _, kind = _MODULES[name].partition(":")
    made: Method = getattr(import_module(module), kind)()
    return made


def searched_with(name: str) -> dict[str, str]:
    """The packages that a method draws with, and their versions. Raises BadInput where one is missing."""
    found = {}
    for package in _PACKAGES.get(name, ()):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            raise BadInput(
                f"search.method {name} needs the package {package}, which is not installed: install the extra "
                "`search` of backtest-grid (docs/search.md)."
            ) from None
    return found
