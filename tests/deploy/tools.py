"""The checkers of deploy/: wheels of requirements/deploy.txt, and programs of `make system-packages`."""

import os
import subprocess
from pathlib import Path

from ray._private.ray_constants import RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S

from tests.conftest import REPOSITORY
from tests.services.programs import program

DEPLOY = REPOSITORY / "deploy"
DRAIN_S = RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S
"""How long a node of Ray that got SIGTERM waits for what runs on it."""


def checked(name: str, *arguments: str | Path, **environment: str) -> str:
    """What a checker writes to stdout; its complaint is the test's failure."""
    environment = {**os.environ, **environment}
    words = [program(name), *map(str, arguments)]
    ran = subprocess.run(words, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{' '.join([name, *words[1:]])}\n{ran.stdout}{ran.stderr}"
    return ran.stdout
