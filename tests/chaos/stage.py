"""What a play needs: an S3 server with bars in it, the proxy before it, a cluster, and the undisturbed session."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from grid.sweep import run
from tests.chaos.cluster import nodes
from tests.chaos.network import network
from tests.chaos.paced import PAUSE_VARIABLE
from tests.chaos.play import Stage
from tests.e2e.sweeps import DATA, small
from tests.services.fault_proxy import fault_proxy
from tests.services.seaweed import Seaweed

SYMBOLS = ("AAPL", "IBM")
CPUS, OF_A_DRIVER = 2, 2
"""CPUs of a node, and how many of all a driver may hold: on two whole nodes as many are left for a second driver."""


def sweep_of(data: str, results: str, slow: int) -> dict[str, Any]:
    """`Paced` on two symbols: 2 x 10 x `slow` trial numbers, some of them holes; all are run, also at another go."""
    space = {"fast": {"range": [2, 20, 2]}, "slow": {"range": [5, 4 + slow, 1]}}
    made = small(Path("unused"), strategy="tests.chaos.paced:Paced", space=space)
    kept = {"store": results, "keep_best": 3, "reuse": False}
    return {**made, "data": {**made["data"], "store": data}, "results": kept}


@contextmanager
def stage(
    s3: Seaweed, bucket: str, folder: Path, members: int = 2, slow: int = 40, pause_ms: float = 120.0
) -> Iterator[Stage]:
    """All of it, gone when the block ends. The environment has the credentials of `s3` already."""
    undisturbed = run(sweep_of(str(DATA), str(folder / "undisturbed"), slow), "serial")
    client, prefix = s3.client(), uuid.uuid4().hex[:8]
    for file in [f for symbol in SYMBOLS for f in (DATA / symbol).rglob("*.parquet")]:
        client.put_object(Bucket=bucket, Key=f"{prefix}/bars/{file.relative_to(DATA)}", Body=file.read_bytes())
    (temporary := folder / "tmp").mkdir()
    environment = {
        "GRID_CACHE_DIR": str(folder / "cache"),
        "TMPDIR": str(temporary),
        "GRID_LOG": "json",
        PAUSE_VARIABLE: str(pause_ms),
    }
    environment |= {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    with (
        network(members + 1) as net,
        fault_proxy(s3.url, net.host) as proxy,
        nodes(net, members, environment, folder, cpus=CPUS) as cluster,
    ):
        by_proxy, direct = (f"s3://{bucket}/{prefix}/{{}}?endpoint_url={url}" for url in (proxy.url, s3.url))
        spec = sweep_of(by_proxy.format("bars"), by_proxy.format("results"), slow) | {"cluster": {"cpus": OF_A_DRIVER}}
        yield Stage(cluster, proxy, spec, direct.format("results"), undisturbed, folder, temporary)
