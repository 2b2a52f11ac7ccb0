"""Code that a results store names is imported from a folder of this machine, and from a remote store with --trust."""

import json
import shlex
import subprocess
import sys

import pytest

from grid.errors import Refused
from grid.session import Session
from grid.trust import refuse_foreign_code
from tests.e2e.desk import Desk


@pytest.fixture
def mount(desk: Desk) -> str:
    """A store on a mount, as far as the grid can tell."""
    (desk.folder / "mount").mkdir()
    (desk.folder / "mount" / "marker").touch()
    return f"nfs://{desk.folder}/mount/results?mount={desk.folder}/mount&marker=marker"


def test_a_module_that_a_remote_store_names_needs_trust(desk: Desk, mount: str):
    given = {"strategy": "mine:Fussy", "space": {"fast": [5, 9], "slow": [20, 30]}, "results": {"store": mount}}
    desk.write_sweep(**given, validation={"blocks": 4, "holdout": 0.2})
    session = desk.session()
    commands = (("show", session, "--trial", "0"), ("holdout", session), ("permute", session, "-n", "2"))
    for command in commands:
        refused = desk.grid(*command, "--store", mount)
        assert refused.code == 3, refused.err
        assert "mine:Fussy" in refused.err
        assert "--trust" in refused.err
        assert "Traceback" not in refused.err
        assert desk.grid(*command, "--store", mount, "--trust").code == 0
        assert desk.grid(*command, "--store", mount).code == 3, "trust is given each time"


def test_what_is_told_to_be_typed_next_works_as_it_stands(desk: Desk, mount: str):
    given = {"strategy": "mine:Fussy", "space": {"fast": [5, 9], "slow": [20, 30]}, "results": {"store": mount}}
    desk.write_sweep(**given)
    told = desk.run("--max-runtime", "0").out
    cut = Session.open("latest", mount)
    assert f"Next: grid resume {cut.id} --store " in told
    told = desk.grid("show", cut.id, "--store", mount).out
    for last in ("resume", "show", "--trial"):
        words = shlex.split(told.partition("Next: grid ")[2].splitlines()[0])
        outcome = desk.grid(*words)
        assert (outcome.code, last in words) == (0, True), outcome.err
        told = outcome.out
    watched = desk.grid("watch", cut.id, "--store", mount).err
    assert f"Next: grid show {cut.id} --store {shlex.quote(cut.folder.provider.uri)}\n" in watched


def test_a_session_that_is_done_needs_no_trust_to_say_so(desk: Desk, mount: str):
    desk.write_sweep(strategy="mine:Fussy", space={"fast": [5, 9], "slow": [20, 30]}, results={"store": mount})
    session = desk.session()
    before = desk.snapshot()
    resumed = desk.grid("resume", session, "--store", mount)
    assert (resumed.code, resumed.err) == (0, f"session {session} is done: nothing is missing\n")
    assert desk.grid("resume", session, "--store", mount, "--json").json()["status"] == "done"
    assert desk.snapshot() == before
    desk.write_sweep(strategy="mine:Fussy", space={"fast": [5, 9], "slow": [20, 30]}, results={"store": mount})
    assert desk.run("--max-runtime", "0", "-q").code == 3
    assert desk.grid("resume", "latest", "--store", mount).code == 3, "one that is not asks for it"


def test_what_needs_no_code_needs_no_trust(desk: Desk, mount: str):
    desk.write_sweep(strategy="mine:Fussy", space={"fast": [5, 9], "slow": [20, 30]}, results={"store": mount})
    session = desk.session()
    for command in (("show", session), ("top", session), ("ls",)):
        assert desk.grid(*command, "--store", mount).code == 0, command
    shown = desk.grid("show", session, "--store", mount)
    assert "Best trials" in shown.out
    assert "it cannot be had here" in shown.out
    assert "--trust" in shown.out, "why there is no verdict"
    assert "it cannot be had here" not in desk.grid("show", session, "--store", mount, "--trust").out
    audit = desk.grid("verify", session, "--store", mount)
    assert audit.code == 0, audit.err
    assert "--trust" in audit.out, "why nothing was recomputed"


def test_watching_needs_no_trust(desk: Desk, mount: str):
    desk.write_sweep(strategy="mine:Fussy", space={"fast": [5, 9], "slow": [20, 30]}, results={"store": mount})
    watched = desk.grid("watch", desk.session(), "--store", mount, "--json")
    assert watched.code == 0, watched.err
    assert json.loads(watched.out.splitlines()[-1])["total"] == 8


def test_folders_of_this_machine_and_registered_strategies_are_trusted(desk: Desk, mount: str):
    desk.write_sweep(strategy="mine:Fussy", space={"fast": [5, 9], "slow": [20, 30]})
    assert desk.grid("show", desk.session(), "--trial", "0").code == 0
    desk.write_sweep(results={"store": mount})
    assert desk.grid("show", desk.session(), "--trial", "0", "--store", mount).code == 0


def test_a_module_that_was_imported_already_is_the_users_own():
    refuse_foreign_code("tests.e2e.desk:Desk", "s3://bucket/results")
    with pytest.raises(Refused, match=r"s3://bucket/results is a store that others may write to"):
        refuse_foreign_code("no_such_module:X", "s3://bucket/results?endpoint_url=http://h")
    refuse_foreign_code("sma_cross", "s3://bucket/results")


def test_nothing_is_imported_before_trust_is_asked_for():
    script = (
        "from grid.trust import refuse_foreign_code\nimport sys\n"
        "try:\n    refuse_foreign_code('antigravity:X', 's3://b/r')\n"
        "except Exception as error:\n    print(type(error).__name__, 'antigravity' in sys.modules)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["Refused", "False"]
