"""KubeRay's custom resources against the schemas of its release, as the API server would check them."""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any


def complaints(resource: dict[str, Any], folder: Path) -> list[str]:
    """What the schema of its kind has against a resource; `folder` holds {KIND}.v1.openapi.json.gz."""
    found = _validator(folder / f"{resource['kind']}.v1.openapi.json.gz").iter_errors(resource)
    return [f"{error.json_path}: {error.message}" for error in found]


@cache
def _validator(file: Path) -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(strict(json.loads(gzip.decompress(file.read_bytes()))))


def strict(schema: Any) -> Any:
    """An OpenAPI schema as JSON Schema that also refuses names it does not know.

    The API server fills in defaults before it looks, so what has one is not required. Metadata is its own business.
    """
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    kept = {k: v for k, v in schema.items() if not k.startswith("x-kubernetes-") and k != "format"}
    if "properties" not in kept:
        return {k: strict(v) if k in ("items", "additionalProperties") else v for k, v in kept.items()}
    fields = kept["properties"]
    kept["properties"] = {name: {} if name == "metadata" else strict(field) for name, field in fields.items()}
    kept["required"] = [name for name in kept.get("required", ()) if "default" not in fields[name]]
    if not schema.get("x-kubernetes-preserve-unknown-fields"):
        kept.setdefault("additionalProperties", False)
    return kept
