"""Fixtures every test may ask for."""

import gc
import os
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from grid import sweep as sweeps
from tests.sampled import check_sample
from tests.services.seaweed import Seaweed, seaweed

settings.register_profile("unhurried", deadline=None)  # kernels compile at their first call, and machines are busy
settings.load_profile("unhurried")
REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the checkout; its files have no licence to be redistributed."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        if os.environ.get("GRID_REQUIRE_SHARED"):
            pytest.fail("the shared folder beside the checkout is required here and missing")
        pytest.skip("needs the reference data in ../shared, which may not be redistributed")
    return folder


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """A real S3 server; the environment of this process and its children holds its administrator's credentials."""
    with pytest.MonkeyPatch.context() as patch, seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        for name in [n for n in os.environ if n.startswith(("AWS_", "STORAGE_"))]:
            patch.delenv(name)
        for name, value in server.environment().items():
            patch.setenv(name, value)
        yield server


@pytest.fixture(scope="session")
def bucket(s3: Seaweed) -> str:
    """The bucket of all tests, each below prefixes of its own: every bucket takes volumes of the server's for good."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    s3.client().create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="module", autouse=True)
def _what_ray_leaves_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Files that it does not close are told of when Python collects them: here, not amid the tests of another file."""
    yield
    here = [each for each in request.session.items if each.getparent(pytest.Module) is request.node]
    if any(each.get_closest_marker("ray") for each in here):
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            gc.collect()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds what another one cached."""
    monkeypatch.setenv("GRID_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def _a_sample_is_recomputed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each sweep that ends in this process, with results in reach, one trial in a hundred is held to its twin."""
    finish = sweeps.finish

    def finish_and_check(session: sweeps.Session, *arguments: object) -> sweeps.Session:
        ended: sweeps.Session = finish(session, *arguments)  # type: ignore[arg-type]
        if not ended.folder.provider.uri.startswith("s3:"):  # there each request is counted
            check_sample(ended)
        return ended

    monkeypatch.setattr(sweeps, "finish", finish_and_check)
