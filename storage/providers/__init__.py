"""Where bytes live: one small contract, and what keeps it.

A store talks to a `StorageProvider` and to nothing else, so another kind of store is one more module here whose class
passes `tests/contracts/provider_contract.py`.
"""

from storage.providers.base import ObjectInfo, ObjectTag, Paths, StorageProvider, checked
from storage.providers.cache import CachedProvider
from storage.providers.choose import cached_provider_for, provider_for, store_option
from storage.providers.local import LocalProvider
from storage.providers.memory import MemoryProvider
from storage.providers.nfs import NfsProvider
from storage.providers.s3 import S3Provider
from storage.providers.s3_options import S3Options

__all__ = [
    "CachedProvider",
    "LocalProvider",
    "MemoryProvider",
    "NfsProvider",
    "ObjectInfo",
    "ObjectTag",
    "Paths",
    "S3Options",
    "S3Provider",
    "StorageProvider",
    "cached_provider_for",
    "checked",
    "provider_for",
    "store_option",
]
