"""Settings of Ray without which a node whose link is cut can hold a sweep for minutes. Imports no Ray."""

from collections.abc import Mapping

CLUSTER_SETTINGS = {
    "RAY_health_check_initial_delay_ms": "5000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_grpc_client_keepalive_time_ms": "5000",
    "RAY_grpc_client_keepalive_timeout_ms": "5000",
    "RAY_grpc_keepalive_time_ms": "5000",
    "RAY_grpc_keepalive_timeout_ms": "5000",
}
"""For the environment of every node and driver. Both groups are needed: with faster health checks alone the node is
taken for dead after 9 s, and calls to it hang on for minutes, until its connections are given up.
"""


def missing_settings(environment: Mapping[str, str]) -> list[str]:
    """Which of them an environment does not set, to whatever value."""
    return [name for name in CLUSTER_SETTINGS if not environment.get(name)]
