"""What Ray says of a worker, an aggregator, a node or an object that is gone, and how it is told apart."""

from collections.abc import Iterator
from contextlib import contextmanager

from ray.exceptions import (
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
)

from grid.errors import Unavailable

GONE = (RayActorError, NodeDiedError, OutOfMemoryError)
"""An actor that was asked is gone."""
BARS_LOST = (*GONE, ObjectLostError)
"""What a worker meets when the actor that reads bars, or the node that held them, is gone."""
_NODE_DIED = "its node has died"


def with_its_node(error: Exception) -> bool:
    """Whether a worker went with its node, or is out of reach; else it died of what it did, or alone.

    Ray says of an actor's death whether it was the node's, in words only. An actor is unavailable when it does not
    answer and Ray has not heard of its death, which it has within a second where the node lives.
    """
    if isinstance(error, (NodeDiedError, ActorUnavailableError)):
        return True
    return isinstance(error, RayActorError) and (error.preempted or _NODE_DIED in str(error))


def last_line(error: Exception) -> str:
    """What Ray's many lines about a dead actor come down to."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")


@contextmanager
def resumable() -> Iterator[None]:
    """Whatever of Ray itself fails within the block pauses the sweep. Raises Unavailable then."""
    try:
        yield
    except RayError as error:
        raise Unavailable(f"Ray failed ({last_line(error)}): the cluster, or its head, may be gone") from error
