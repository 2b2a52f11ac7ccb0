"""`grid bench` on this machine, shortly."""

from tests.e2e.desk import Desk


def test_it_measures_this_machine_and_estimates_a_sweep(desk: Desk) -> None:
    before = desk.snapshot()
    outcome = desk.grid("bench", "sweep.yaml", "--seconds", "0.05", "--json")
    assert outcome.code == 0
    found = outcome.json()
    assert found["speeds"][0]["what"] == "sma_cross, long"
    assert all(speed["ns_per_bar"] > 0 and speed["trials_per_second"] > 0 for speed in found["speeds"])
    assert found["efficiency"] == found["rate_together"] / (found["cpus"] * found["rate_alone"]) > 0
    assert found["sweep"]["trials"] == 12
    assert desk.snapshot() == before
