"""Custom resources of Kueue and of the Prometheus operator, held to what their API servers take.

No package carries the schemas of Kueue, so what deploy/ uses of its API v1beta2 is written down here from its source,
apis/kueue/v1beta2/{clusterqueue,localqueue,resourceflavor}_types.go of kubernetes-sigs/kueue 0.19: names, types, bounds
and rules as they stand there; any other field is refused, until it is written down as well. v1beta1, which was served
beside it, is not any more. Models of monitoring.coreos.com/v1 come from the schemas of the operator's release 0.80, in
the package cloudcoil-models-prometheus-operator.
"""

import importlib
from functools import cache
from typing import Any

from tests.deploy.crds import strict
from tests.services.programs import need

KUEUE, MONITORING = "kueue.x-k8s.io/v1beta2", "monitoring.coreos.com/v1"
NO_NAMESPACE = {"ClusterQueue", "ResourceFlavor"}
"""+kubebuilder:resource:scope=Cluster."""
NAME = {
    "type": "string",
    "maxLength": 253,
    "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
}
QUANTITY = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": r"^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$"},
    ]
}
"""resource.Quantity, not negative."""


def closed(required: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    """An object of these fields and no others."""
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


def listed(item: dict[str, Any], most: int) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": 1, "maxItems": most}


LABELS = {"type": "object", "additionalProperties": {"type": "string"}}
RESOURCE = closed(("name", "nominalQuota"), name={"type": "string", "minLength": 1}, nominalQuota=QUANTITY)
FLAVOR = closed(("name", "resources"), name=NAME, resources=listed(RESOURCE, 64))
GROUP = closed(
    ("coveredResources", "flavors"), coveredResources=listed({"type": "string"}, 64), flavors=listed(FLAVOR, 64)
)
QUEUE = closed(
    resourceGroups={"type": "array", "items": GROUP, "maxItems": 16},
    queueingStrategy={"enum": ["StrictFIFO", "BestEffortFIFO"]},
    namespaceSelector=closed(matchLabels=LABELS),
)
SPECS = {"ResourceFlavor": closed(nodeLabels={**LABELS, "maxProperties": 8}), "ClusterQueue": QUEUE}
SPECS["LocalQueue"] = closed(clusterQueue=NAME)


def complaints(resource: dict[str, Any]) -> list[str]:
    """What is wrong with a resource of these two, as its API server would find it; nothing for one that it takes."""
    found = [f"{error.json_path}: {error.message}" for error in _validator(resource["kind"]).iter_errors(resource)]
    return found or _rules(resource)


@cache
def _validator(kind: str) -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(_kueue(kind) if kind in SPECS else _monitoring(kind))


def _kueue(kind: str) -> dict[str, Any]:
    return closed(
        ("apiVersion", "kind", "metadata"),
        apiVersion={"const": KUEUE},
        kind={"const": kind},
        metadata=closed(("name",), name=NAME, labels=LABELS, **({} if kind in NO_NAMESPACE else {"namespace": NAME})),
        spec=SPECS[kind],
    )


def _monitoring(kind: str) -> Any:
    need("cloudcoil")
    models = importlib.import_module("cloudcoil.models.prometheus_operator.v1")  # 4 MB that mypy need not read
    schema = getattr(models, kind).model_json_schema()
    parts = {name: strict(part) for name, part in schema.pop("$defs").items()}
    closed_schema = strict(schema)
    return {**closed_schema, "$defs": parts, "required": ["apiVersion", "kind", "metadata", "spec"]}


def _rules(resource: dict[str, Any]) -> list[str]:
    """Rules of Kueue beyond single fields: XValidation of ResourceGroup, and what its webhook asks."""
    if resource["kind"] != "ClusterQueue":
        return []
    groups = resource["spec"].get("resourceGroups", [])
    covered = [name for group in groups for name in group["coveredResources"]]
    flavors = [(flavor, group) for group in groups for flavor in group["flavors"]]
    found = [
        f"{flavor['name']}: each flavor lists the covered resources in their order"
        for flavor, group in flavors
        if [r["name"] for r in flavor["resources"]] != group["coveredResources"]
    ]
    names = [flavor["name"] for flavor, _ in flavors]
    found += ["a resource is in one group only"] * (len(set(covered)) < len(covered))
    return found + ["a flavor is in one group only"] * (len(set(names)) < len(names))
