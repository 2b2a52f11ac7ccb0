"""How a bucket is reached: what may be stated, and what the environment says otherwise."""

import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from storage.errors import StorageError

ENCRYPTIONS = {"AES256": "AES256", "s3": "AES256", "kms": "aws:kms", "aws:kms": "aws:kms"}


@dataclass(frozen=True)
class S3Options:
    """None leaves an option to the environment or to its default; nothing here is secret.

    endpoint_url: http(s)://host:port, else AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, else AWS.
    region: else AWS_REGION or AWS_DEFAULT_REGION, else us-east-1 with an endpoint and boto's own rules without.
    profile: a section of the shared AWS configuration, whose credentials are used.
    path_style: bucket in the path, not in the host; the default with an endpoint.
    anonymous: unsigned requests.
    sse: AES256 or aws:kms; sse_kms_key_id: a key for the latter, else the bucket's.
    checksums: when_required for old stores that do not know the newer checksum headers.
    """

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    path_style: bool | None = None
    anonymous: bool | None = None
    sse: str | None = None
    sse_kms_key_id: str | None = None
    checksums: str | None = None

    def __post_init__(self) -> None:
        _check_endpoint(self.endpoint_url)
        if self.sse is not None and self.sse not in ENCRYPTIONS:
            raise StorageError(f"sse {self.sse!r} is no encryption of S3; it is AES256 or aws:kms.")
        if self.sse_kms_key_id is not None and ENCRYPTIONS.get(self.sse or "") != "aws:kms":
            raise StorageError("sse_kms_key_id needs sse=aws:kms.")
        if self.checksums not in (None, "when_supported", "when_required"):
            raise StorageError(f"checksums {self.checksums!r} is neither when_supported nor when_required.")

    def endpoint(self) -> str | None:
        """The endpoint by option or environment; None for AWS itself."""
        found = self.endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        _check_endpoint(found)
        return found or None

    def place(self) -> str:
        """The endpoint for people."""
        return self.endpoint() or "AWS"

    def of_region(self) -> str | None:
        """The region by option, environment or endpoint; None leaves it to the profile."""
        stated = self.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        return stated or (None if self.endpoint() is None else "us-east-1")

    def by_path(self) -> bool:
        """Whether the bucket is named in the path, not in the host."""
        return self.endpoint() is not None if self.path_style is None else self.path_style

    def encryption(self) -> dict[str, str]:
        """Arguments of a PUT."""
        if self.sse is None:
            return {}
        key = {"SSEKMSKeyId": self.sse_kms_key_id} if self.sse_kms_key_id else {}
        return {"ServerSideEncryption": ENCRYPTIONS[self.sse], **key}

    def of_filesystem(self) -> dict[str, Any]:
        """Arguments of `s3fs.S3FileSystem`.

        The layers below do not retry: their retries multiply, and those with a deadline are ours.
        """
        named: dict[str, Any] = {"profile": self.profile} if self.profile else {}
        checksums = {"request_checksum_calculation": self.checksums, "response_checksum_validation": self.checksums}
        return {
            **named,
            "anon": bool(self.anonymous),
            "use_listings_cache": False,
            "skip_instance_cache": True,
            "client_kwargs": {
                "endpoint_url": self.endpoint(),
                "region_name": self.of_region(),
            },
            "config_kwargs": {
                "s3": {"addressing_style": "path" if self.by_path() else "auto"},
                "retries": {"total_max_attempts": 1, "mode": "standard"},
                "connect_timeout": 5,
                "read_timeout": 30,
                "max_pool_connections": 32,
                **(checksums if self.checksums else {}),
            },
        }


def _check_endpoint(url: str | None) -> None:
    """Raises `StorageError`, without repeating what may be a secret."""
    if not url:
        return
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good:
        raise StorageError("The endpoint of S3 must be a URL like https://host:port; this one is not.")
    if parts.username or parts.password or parts.query:
        raise StorageError(
            "The endpoint of S3 must not hold credentials or a query; give credentials as AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY or by a profile."
        )
