"""A checker that is missing skips its tests on somebody's machine, and fails them where it is required, as in CI."""

from collections.abc import Callable

import pytest
from _pytest.outcomes import Failed, Skipped

from tests.conftest import REPOSITORY
from tests.services import programs

ASKED: dict[str, tuple[Callable[[], object], str, str]] = {
    "wheel": (lambda: programs.program("no-such-checker"), "GRID_REQUIRE_DEPLOY_TOOLS", "make deploy-tools"),
    "module": (lambda: programs.need("no_such_checker"), "GRID_REQUIRE_DEPLOY_TOOLS", "make deploy-tools"),
    "system": (lambda: programs.program("promtool"), "GRID_REQUIRE_SYSTEM_PACKAGES", "make system-packages"),
}


@pytest.mark.parametrize("kind", ASKED)
def test_what_is_missing_skips_and_fails_where_it_is_required(kind: str, monkeypatch: pytest.MonkeyPatch):
    ask, variable, target = ASKED[kind]
    monkeypatch.setattr(programs.shutil, "which", lambda _: None)
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(Skipped, match=target):
        ask()
    monkeypatch.setenv(variable, "1")
    with pytest.raises(Failed, match=f"is required here and missing: {target}"):
        ask()


def test_ci_installs_and_requires_them_before_it_tests():
    lines = (REPOSITORY / ".ci" / "run").read_text().splitlines()
    order = [line.strip() for line in lines]
    for target, variable in (("deploy-tools", "DEPLOY_TOOLS"), ("system-packages", "SYSTEM_PACKAGES")):
        installed, required = order.index(f"make {target}"), order.index(f"export GRID_REQUIRE_{variable}=1")
        assert installed < required < order.index("make test"), target
