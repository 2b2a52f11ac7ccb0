"""What commands say where a request is odd and not wrong, or would destroy something."""

from tests.e2e.desk import Desk


def test_export_writes_over_nothing_unasked(desk: Desk):
    desk.session()
    (desk.folder / "rows.csv").write_text("mine")
    outcome = desk.grid("export", "latest", "rows.csv")
    assert (outcome.code, "--replace" in outcome.err) == (2, True)
    assert (desk.folder / "rows.csv").read_text() == "mine"
    assert desk.grid("export", "latest", "rows.csv", "--replace").code == 0
    assert (desk.folder / "rows.csv").read_text() != "mine"


def test_what_is_done_or_asked_in_vain_is_told(desk: Desk):
    random = ("--set", "search.method=random", "--set", "search.trials=99")
    assert "note: search.trials asks for 99 points and the space has 6" in desk.grid("plan", "sweep.yaml", *random).err
    desk.session()
    resumed = desk.grid("resume", "latest", "--executor", "serial")
    assert (resumed.code, "nothing is missing" in resumed.err) == (0, True)
    outcome = desk.grid("show", "latest", "--trial", "99999")
    assert (outcome.code, "numbers go from 0 to 11" in outcome.err) == (2, True)
