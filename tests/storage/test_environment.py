"""Stores by STORAGE_PROVIDER and STORAGE_CONFIG, and the `.env` files."""

import json
from pathlib import Path

import pytest

from storage.environment import FILES, cache_bytes, default_data_store, load_environment
from storage.errors import StorageError
from storage.providers import (
    CachedProvider,
    LocalProvider,
    NfsProvider,
    S3Options,
    S3Provider,
    cached_provider_for,
    provider_for,
)

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def configured(monkeypatch):
    def configure(kind, **options):
        monkeypatch.setenv("STORAGE_PROVIDER", kind)
        monkeypatch.setenv("STORAGE_CONFIG", json.dumps(options))

    return configure


def test_names_lie_below_the_configured_root(configured, tmp_path):
    configured("local", path=str(tmp_path))
    assert provider_for("data") == LocalProvider(tmp_path / "data")
    configured("nfs", path=f"{tmp_path}/grid", mount=str(tmp_path))
    assert provider_for("results") == NfsProvider(tmp_path / "grid/results", tmp_path)
    configured("s3", bucket="bucket", prefix="/team/", region="eu-west-1", path_style=True)
    options = S3Options(region="eu-west-1", path_style=True)
    assert provider_for("results/a") == S3Provider("bucket", "team/results/a", options)
    assert provider_for(provider_for("data").uri) == provider_for("data")
    configured("memory")
    assert provider_for("x") is provider_for("memory://x")


def test_paths_and_uris_are_what_they_say(configured, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    configured("s3", bucket="bucket", endpoint_url="http://host:1")
    assert provider_for(str(tmp_path)) == LocalProvider(tmp_path)
    assert provider_for("./data") == LocalProvider(tmp_path / "data")
    assert provider_for("s3://other/x") == S3Provider("other", "x", S3Options("http://host:1"))
    assert provider_for("s3://other/x?endpoint_url=http://two:2").options.endpoint_url == "http://two:2"


@pytest.mark.parametrize(
    ("kind", "config", "told"),
    [
        ("ftp", "{}", "STORAGE_PROVIDER is 'ftp'"),
        ("s3", "{", "STORAGE_CONFIG is no JSON"),
        ("s3", "[]", "must be a JSON object"),
        ("s3", "{}", "must name a bucket"),
        ("s3", '{"bucket": "bucket", "secret_access_key": "hush"}', "credentials belong into AWS_"),
        ("local", "{}", "must name a folder"),
        ("local", '{"path": "/x", "mount": "/y"}', "STORAGE_CONFIG has no option 'mount'"),
        ("nfs", '{"path": "/x", "nope": 1}', "has no option 'nope'"),
    ],
)
def test_bad_configurations_are_one_sentence(monkeypatch, kind, config, told):
    monkeypatch.setenv("STORAGE_PROVIDER", kind)
    monkeypatch.setenv("STORAGE_CONFIG", config)
    with pytest.raises(StorageError, match=told) as raised:
        provider_for("data")
    assert "hush" not in str(raised.value)


def test_a_name_may_not_climb_out_of_the_configured_root(configured, tmp_path):
    configured("local", path=str(tmp_path))
    with pytest.raises(StorageError, match="not allowed in a store"):
        provider_for("data/../../x")


@pytest.mark.parametrize(("name", "file"), FILES.items())
def test_the_file_of_the_environment_is_read_and_does_not_override(tmp_path, name, file):
    (tmp_path / file).write_text("A=from the file\nB='two words'  # why\n")
    environment = {"GRID_ENV": name, "A": "set"}
    assert load_environment(tmp_path, environment) == tmp_path / file
    assert environment == {"GRID_ENV": name, "A": "set", "B": "two words"}


def test_only_the_file_of_dev_may_be_missing(tmp_path):
    assert load_environment(tmp_path, {}) is None
    for name, told in (("prod", r"has no \.env\.prod"), ("live", "GRID_ENV is 'live'")):
        with pytest.raises(StorageError, match=told):
            load_environment(tmp_path, {"GRID_ENV": name})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("A=1\nSECRET='hush\nB=2\n", r"\.env\.prod, line 2: .*write NAME=value, with quotes around a value closed"),
        ("A=1\n\n# why\n\nhush hush\n", r"\.env\.prod, line 5: "),
        (b"A=\xff", r"\.env\.prod cannot be read \(it is not UTF-8 text\)"),
    ],
)
def test_of_a_file_with_a_broken_line_nothing_is_used(tmp_path, content, told):
    (tmp_path / ".env.prod").write_bytes(content if isinstance(content, bytes) else content.encode())
    environment = {"GRID_ENV": "prod"}
    with pytest.raises(StorageError, match=told) as raised:
        load_environment(tmp_path, environment)
    assert "hush" not in str(raised.value)
    assert environment == {"GRID_ENV": "prod"}


def test_the_example_is_complete_and_can_be_copied(tmp_path):
    text = (REPOSITORY / ".env.example").read_text()
    for name in (
        "GRID_ENV",
        "STORAGE_PROVIDER",
        "STORAGE_CONFIG",
        "DATA_ROOT",
        "TZ",
        "GRID_CACHE_DIR",
        "AWS_REGION",
        "GRID_CACHE_BYTES",
        "AWS_ENDPOINT_URL",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_PROFILE",
    ):
        assert f"{name}=" in text
    (tmp_path / ".env").write_text(text)
    environment: dict[str, str] = {}
    load_environment(tmp_path, environment)
    assert not any("KEY" in name for name in environment)


def test_old_names_and_the_cache(monkeypatch, tmp_path):
    assert default_data_store() == "data"
    monkeypatch.setenv("DATA_ROOT", "/bars")
    assert default_data_store() == "/bars"
    assert isinstance(cached_provider_for("s3://bucket/x"), CachedProvider)
    assert cached_provider_for(str(tmp_path)) == LocalProvider(tmp_path)
    monkeypatch.setenv("GRID_CACHE_BYTES", "0")
    assert isinstance(cached_provider_for("s3://bucket/x"), S3Provider)
    monkeypatch.setenv("GRID_CACHE_BYTES", "many")
    with pytest.raises(StorageError, match="GRID_CACHE_BYTES is 'many'"):
        cache_bytes()
