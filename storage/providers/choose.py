"""Which provider a name means: by its scheme, or by STORAGE_PROVIDER and STORAGE_CONFIG."""

import os
import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from storage.environment import CACHE_BYTES, cache_bytes, cache_folder, storage_settings
from storage.errors import StorageError
from storage.providers.base import StorageProvider, checked
from storage.providers.cache import CachedProvider
from storage.providers.local import LocalProvider
from storage.providers.memory import memory_of
from storage.providers.nfs import NfsProvider
from storage.providers.s3 import S3Provider
from storage.providers.s3_options import S3Options

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
_SWITCHES = {"true": True, "1": True, "false": False, "0": False}
KNOWN = "a folder, file:///folder, nfs:///mount/folder, s3://bucket/prefix or memory://name"

__all__ = ["CACHE_BYTES", "cached_provider_for", "provider_for", "store_option"]


def provider_for(uri: str) -> StorageProvider:
    """The provider of a folder, `file:///path`, `nfs:///path`, `s3://bucket/prefix` or `memory://name`.

    A name without scheme that begins with none of / . ~ lies below the root that STORAGE_PROVIDER and STORAGE_CONFIG
    describe, where they are set, and in the working directory otherwise. Nothing is connected to. Raises
    `StorageError` for any other scheme, and never repeats what could be a secret.
    """
    scheme = _SCHEME.match(uri)
    if scheme is None:
        return _below_configured(uri)
    known = {"file": _local_of, "memory": _memory_of, "nfs": _nfs_of, "s3": _s3_of}
    if scheme[1].lower() not in known:
        raise StorageError(f"Stores of kind {scheme[1] + '://'!r} are not supported; give {KNOWN}.")
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise StorageError(f"The store's name is no URI; give {KNOWN}.") from error
    if "@" in parts.netloc:
        raise StorageError(
            f"The name of a store must hold no credentials, as this one of kind {scheme[1]}:// does; give them as "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or by a profile."
        )
    return known[scheme[1].lower()](uri, parts)


def cached_provider_for(uri: str) -> StorageProvider:
    """`provider_for` with this node's cache before it where the objects are far away; for what is read often."""
    provider = provider_for(uri)
    limit = cache_bytes()
    if not isinstance(provider, S3Provider) or not limit:
        return provider
    return CachedProvider(provider, cache_folder(), limit)


def store_option(uri: str) -> str:
    """What a command needs to find the results store of that URI from here, ` --store URI`: nothing for ./results."""
    try:
        here = uri == str(Path("results").absolute())
    except FileNotFoundError:  # the working directory was removed meanwhile
        here = False
    return "" if here else f" --store {shlex.quote(uri)}"


def _below_configured(name: str) -> StorageProvider:
    if not name:
        raise StorageError(f"The store has no name; give {KNOWN}.")
    settings = storage_settings(os.environ)
    if settings is None or name.startswith(("/", ".", "~")):
        return LocalProvider(Path(name).expanduser())
    options = dict(settings.options)
    if settings.kind == "s3":
        bucket, prefix = options.pop("bucket", None), options.pop("prefix", "").strip("/")
        if not bucket:
            raise StorageError('STORAGE_PROVIDER is s3, so STORAGE_CONFIG must name a bucket: {"bucket": "..."}.')
        return _s3(bucket, f"{prefix}/{name}".strip("/"), options)
    if settings.kind == "memory":
        return memory_of(name)
    root = options.pop("path", None)
    if not root:
        raise StorageError(
            f'STORAGE_PROVIDER is {settings.kind}, so STORAGE_CONFIG must name a folder: {{"path": "/..."}}.'
        )
    if settings.kind == "nfs":
        return _nfs(Path(root) / checked(name), options)
    _refuse_unknown(options, (), "STORAGE_CONFIG")
    return LocalProvider(Path(root).expanduser() / checked(name))


def _local_of(uri: str, parts: SplitResult) -> StorageProvider:
    if parts.netloc not in ("", "localhost"):
        raise StorageError(f"{uri!r} names another host; write file:///folder with three slashes.")
    return LocalProvider(Path(unquote(parts.path) or "/"))


def _memory_of(uri: str, _: SplitResult) -> StorageProvider:
    return memory_of(uri.partition("://")[2])


def _nfs_of(uri: str, parts: SplitResult) -> StorageProvider:
    if parts.netloc or len(parts.path) < 2:
        raise StorageError(f"{uri!r} should be a folder on this machine's mount; write nfs:///mount/folder.")
    return _nfs(Path(unquote(parts.path)), dict(parse_qsl(parts.query)))


def _nfs(root: Path, options: dict[str, Any]) -> StorageProvider:
    mount, marker = options.pop("mount", None), options.pop("marker", None)
    _refuse_unknown(options, ("mount", "marker"), "nfs://")
    return NfsProvider(root, Path(mount) if mount else None, marker)


def _s3_of(_: str, parts: SplitResult) -> StorageProvider:
    stated = storage_settings(os.environ)
    defaults = dict(stated.options) if stated and stated.kind == "s3" else {}
    options = {k: v for k, v in defaults.items() if k not in ("bucket", "prefix")} | dict(parse_qsl(parts.query))
    return _s3(parts.netloc, unquote(parts.path).strip("/"), options)


def _s3(bucket: str, prefix: str, options: dict[str, Any]) -> StorageProvider:
    if not _BUCKET.fullmatch(bucket):
        raise StorageError(f"{bucket!r} is no name of a bucket; write s3://bucket/prefix.")
    if prefix:
        checked(prefix)
    known = {f.name: f.type for f in fields(S3Options)}
    _refuse_unknown(options, tuple(known), "s3://")
    typed: dict[str, Any] = {
        name: _switch(name, value) if "bool" in str(known[name]) else str(value)
        for name, value in options.items()
        if value is not None
    }
    return S3Provider(bucket, prefix, S3Options(**typed))


def _switch(name: str, value: Any) -> bool:
    if str(value).lower() not in _SWITCHES:
        raise StorageError(f"Option {name} of s3:// is true or false.")
    return _SWITCHES[str(value).lower()]


def _refuse_unknown(options: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    """Names alone are told: a value may be a secret."""
    for name in options:
        if name not in known:
            secret = "; credentials belong into AWS_* variables or a profile" if _is_secret(name) else ""
            allowed = ", ".join(known) or "none"
            raise StorageError(f"{where} has no option {name!r}{secret}; options are: {allowed}.")


def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in ("key", "secret", "token", "password"))
