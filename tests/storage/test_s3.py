"""What is particular to S3: faults on the way, promises that a store does not keep, and words without secrets."""

import multiprocessing
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import botocore.auth
import pytest

from storage.errors import NotFound, StorageError
from storage.providers import S3Options, S3Provider, provider_for, s3_calls, s3_put
from storage.providers.base import sha256_of
from storage.providers.s3_put import QuickPut
from tests.services.fault_proxy import Fault, fault_proxy
from tests.services.seaweed import NO_LIST, NO_READ, READER, SECRET, WRITER

pytestmark = pytest.mark.s3
MANY = 6
"""Attempts of a call, in these tests; s3fs and botocore below make none of their own."""


@pytest.fixture
def proxy(s3):
    with fault_proxy(s3.url) as proxy:
        yield proxy


@pytest.fixture
def provider(bucket, proxy, request):
    """Through the proxy, with the promise of the store already tried."""
    provider = S3Provider(bucket, request.node.name.replace("[", "-").replace("]", ""), S3Options(proxy.url))
    provider.check_writable()
    proxy.seen.clear()
    return provider


@pytest.fixture
def impatient(monkeypatch):
    """Pauses between attempts are short, and attempts are few."""
    monkeypatch.setattr(s3_calls, "LONGEST_PAUSE_S", 0.05)
    monkeypatch.setattr(s3_calls, "ATTEMPTS", MANY)


@pytest.mark.usefixtures("impatient")
class TestFaults:
    @pytest.mark.parametrize("action", ["status", "reset", "reset_after"])
    def test_a_write_that_fails_once_is_made_good(self, provider, proxy, action):
        proxy.faults = [Fault(action, "PUT", times=1)]
        provider.write("a", b"content")
        assert provider.read("a") == b"content"
        assert proxy.verbs()["PUT"] == 2

    @pytest.mark.parametrize("action", ["status", "reset", "reset_after"])
    @pytest.mark.parametrize("times", [1, 2, 3])
    def test_our_own_create_counts_whenever_the_answer_was_lost(self, provider, proxy, action, times):
        before = provider.retries
        proxy.faults = [Fault(action, "PUT", times=times)]
        assert provider.create("a", b"mine") is True
        assert provider.create("a", b"other") is False
        assert provider.read("a") == b"mine"
        assert proxy.verbs()["PUT"] == times + 1 + 2  # one that is refused is refused by each of the two ways
        assert provider.retries - before <= times  # aiohttp repeats a request once by itself where the connection broke
        assert action != "status" or provider.retries - before == times

    def test_a_create_whose_answer_was_lost_and_that_somebody_else_won_is_lost(self, provider, proxy):
        provider.write("a", b"theirs")
        proxy.faults = [Fault("reset_after", "PUT", times=1)]
        assert provider.create("a", b"mine") is False
        assert provider.read("a") == b"theirs"

    @pytest.mark.parametrize("action", ["status", "reset", "reset_after"])
    def test_the_promise_is_proved_though_an_answer_is_lost(self, bucket, proxy, action):
        """The repetition of the first try is refused, because of the first try."""
        proxy.faults = [Fault(action, "PUT", times=1)]
        provider = S3Provider(bucket, f"promise-{action}", S3Options(proxy.url))
        provider.check_writable()
        assert proxy.verbs() == {"PUT": 3, "DELETE": 1}
        assert provider.leftovers(0.0) == []

    def test_of_racing_creators_whose_answers_are_lost_one_wins(self, provider, proxy, monkeypatch):
        monkeypatch.setattr(s3_calls, "ATTEMPTS", 30)
        for turn in range(5):
            proxy.faults = [Fault("reset_after", "PUT", p=0.5)]
            with ThreadPoolExecutor(4) as pool:
                won = list(pool.map(lambda n, t=turn: provider.create(f"c/{t}", b"%d" % n), range(4)))
            proxy.faults = []
            assert won.count(True) == 1
            assert provider.read(f"c/{turn}") == b"%d" % won.index(True)

    @pytest.mark.parametrize("length", [0, 1, 4000])
    def test_a_truncated_answer_is_asked_for_again(self, provider, proxy, length):
        provider.write("a", b"x" * 100_000)
        proxy.faults = [Fault("truncate", "GET", length=length, times=2)]
        assert provider.read("a") == b"x" * 100_000

    @pytest.mark.parametrize("length", [0, 50_000, 99_999])
    def test_a_flipped_bit_is_never_handed_on(self, provider, proxy, length):
        provider.write("a", b"x" * 100_000)
        proxy.faults = [Fault("flip", "GET", length=length, times=2)]
        assert provider.read("a") == b"x" * 100_000
        proxy.faults = [Fault("flip", "GET", length=length)]
        for read in (provider.read, provider.open):
            with pytest.raises(StorageError, match=r"the answer is damaged|the connection broke"):
                read("a")

    def test_what_is_damaged_in_the_store_itself_is_told_soon(self, provider, proxy, s3, monkeypatch):
        monkeypatch.setattr(s3_calls, "ATTEMPTS", 30)
        provider.write("a", b"good")
        client, key = s3.client(), f"{provider.prefix}/a"
        told = client.head_object(Bucket=provider.bucket, Key=key)["Metadata"]
        client.put_object(Bucket=provider.bucket, Key=key, Body=b"evil", Metadata=told)
        with pytest.raises(StorageError, match=r"Could not read 'a' .*the content does not have the sha256"):
            provider.read("a")
        assert proxy.verbs()["GET"] == s3_calls.MOST_DAMAGED == 3

    def test_a_store_that_is_busy_now_and_then_answers_right(self, provider, proxy):
        proxy.faults, before = [Fault("status", p=0.2)], provider.retries
        for n in range(15):
            assert provider.create(f"d/{n}", b"%d" % n) is True
            assert provider.read(f"d/{n}") == b"%d" % n
        assert len(provider.list("d")) == 15
        failed = sum(action == "status" for _, _, action in proxy.seen)
        assert provider.retries - before == failed > 0
        assert len(proxy.seen) == 31 + failed

    def test_a_store_that_is_busy_for_ever_is_told_after_a_bounded_number_of_requests(self, provider, proxy):
        proxy.faults = [Fault("status")]
        with pytest.raises(StorageError, match=rf"Could not read 'a' in s3://.*{proxy.url}.* 503 SlowDown \(6 att"):
            provider.read("a")
        assert proxy.verbs() == {"GET": MANY}

    def test_a_slow_store_is_waited_for(self, provider, proxy):
        proxy.faults = [Fault(latency_s=2.0)]
        provider.write("a", b"late")
        assert provider.read("a") == b"late"
        assert proxy.verbs() == {"PUT": 1, "GET": 1}

    def test_a_page_of_a_listing_that_fails_is_asked_for_again(self, provider, proxy):
        provider.write("a", b"")
        proxy.faults = [Fault("truncate", "GET", path="list-type", length=30, times=1)]
        assert provider.list() == ["a"]


@pytest.mark.usefixtures("impatient")
class TestRefusals:
    """Each is one sentence, and none repeats a secret."""

    def refused(self, call):
        with pytest.raises(StorageError) as raised:
            call()
        told = str(raised.value)
        assert SECRET not in told
        assert "key-of-" not in told
        assert told.count(". ") == 0
        assert told.endswith(".")
        return told

    def test_a_bucket_that_is_not_there(self, s3, monkeypatch):
        for name, value in s3.environment(READER).items():
            monkeypatch.setenv(name, value)
        provider = S3Provider("no-such-bucket", "x", S3Options(s3.url))
        for call in (provider.list, lambda: provider.read("a")):
            assert "there is no such bucket" in self.refused(call) or "no right" in self.refused(call)

    def test_an_endpoint_where_nothing_answers(self):
        told = self.refused(lambda: S3Provider("some-bucket", "", S3Options("http://127.0.0.1:1")).read("a"))
        assert "Could not read 'a' in s3://some-bucket?endpoint_url=http://127.0.0.1:1: nothing answers there" in told
        assert "(4 attempts)" in told

    @pytest.mark.parametrize(
        ("identity", "allowed", "denied"),
        [
            (READER, ["read", "list"], ["write"]),
            (WRITER, ["write"], ["list", "read"]),
            (NO_LIST, ["read", "write"], ["list"]),
            (NO_READ, ["list", "write"], ["read"]),
        ],
    )
    def test_rights_that_are_missing(self, s3, bucket, monkeypatch, identity, allowed, denied):
        S3Provider(bucket, identity, S3Options(s3.url)).write("a", b"")
        for name, value in s3.environment(identity).items():
            monkeypatch.setenv(name, value)
        provider = S3Provider(bucket, identity, S3Options(s3.url))
        calls = {
            "read": lambda: provider.read("a"),
            "list": provider.list,
            "write": lambda: provider.write("b", b""),
        }
        for name in allowed:
            calls[name]()
        for name in denied:
            assert "the credentials have no right" in self.refused(calls[name])

    def test_a_wrong_secret(self, s3, bucket, monkeypatch):
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"{SECRET}-wrong")
        told = self.refused(lambda: S3Provider(bucket, "", S3Options(s3.url)).read("a"))
        assert "the secret key is not the one" in told

    def test_no_credentials(self, s3, bucket, monkeypatch, tmp_path):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(tmp_path))
        told = self.refused(lambda: S3Provider(bucket, "", S3Options(s3.url)).read("a"))
        assert "there are no credentials" in told

    @pytest.mark.parametrize("minutes", [-20, 20])
    def test_a_wrong_clock(self, provider, monkeypatch, minutes):
        right = botocore.auth.get_current_datetime
        monkeypatch.setattr(
            botocore.auth, "get_current_datetime", lambda *how: right(*how) + timedelta(minutes=minutes)
        )
        assert "this machine's clock is wrong" in self.refused(lambda: provider.read("a"))

    @pytest.mark.parametrize("name", ["key", "secret", "aws_secret_access_key", "token"])
    def test_credentials_in_a_name(self, name):
        told = self.refused(lambda: provider_for(f"s3://bucket/x?{name}={SECRET}"))
        assert "credentials belong into AWS_* variables" in told

    def test_credentials_in_the_endpoint(self, monkeypatch):
        assert "must not hold credentials" in self.refused(lambda: S3Options(f"http://me:{SECRET}@host"))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://me:{SECRET}@host")
        assert "must not hold credentials" in self.refused(lambda: S3Provider("bucket").read("a"))

    @pytest.mark.parametrize("uri", ["s3://", "s3://a", "s3://bucket/../x", "s3://bucket/x?nope=1", "s3://b_!/x"])
    def test_names_that_are_none(self, uri):
        self.refused(lambda: provider_for(uri))


def test_a_store_that_overwrites_is_refused_before_anything_is_written(bucket, s3, monkeypatch):
    """A look-alike that accepts If-None-Match without honouring it."""
    send = s3_calls.Connection._send

    async def careless(self, call):
        call.arguments.pop("IfNoneMatch", None)
        return await send(self, call)

    provider = S3Provider(bucket, "careless", S3Options(s3.url, region="careless"))
    monkeypatch.setattr(s3_calls.Connection, "_send", careless)
    monkeypatch.setattr("storage.providers.s3._proven", set())
    for write in (provider.write, provider.create):
        with pytest.raises(StorageError, match=r"overwrites what is there .* keep results in a folder or on NFS"):
            write("a", b"x")
    assert provider.list() == []


def test_the_promise_is_tried_once_a_process(bucket, proxy):
    provider = S3Provider(bucket, "once", S3Options(proxy.url))
    for n in range(3):
        provider.write(f"{n}", b"")
    assert proxy.verbs() == {"PUT": 2 + 3, "DELETE": 1}


def test_it_pickles_without_a_connection_and_its_uri_says_all(s3, bucket):
    provider = S3Provider(bucket, "a/b c", S3Options(s3.url, region="us-east-1", path_style=True))
    provider.write("x", b"1")
    again = pickle.loads(pickle.dumps(provider))  # noqa: S301 - our own bytes
    assert again == provider == provider_for(provider.uri)
    assert b"key-of" not in pickle.dumps(provider)
    assert again.read("x") == b"1"


def test_threads_share_a_connection(s3, bucket):
    provider = S3Provider(bucket, "threads", S3Options(s3.url))
    barrier = threading.Barrier(8)

    def work(n):
        barrier.wait(120)
        provider.write(f"{n}", b"%d" % n)
        return provider.read(f"{n}")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [b"%d" % n for n in range(8)]


def test_options_are_taken_from_the_environment(s3, bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    provider = provider_for(f"s3://{bucket}/env")
    provider.write("a", b"1")
    assert provider.uri == f"s3://{bucket}/env"
    assert provider.options.of_filesystem()["client_kwargs"]["region_name"] == "eu-west-1"
    with pytest.raises(NotFound, match=rf"s3://{bucket}/env \({s3.url}\): there is no such object"):
        provider.read("b")


@pytest.mark.parametrize("by", ["option", "variable"])
def test_credentials_of_a_profile(s3, bucket, monkeypatch, tmp_path, by):
    given = s3.environment()
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    (tmp_path / "credentials").write_text("[team]\n" + "".join(f"{n.lower()} = {given[n]}\n" for n in names))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name in names:
        monkeypatch.delenv(name)
    if by == "variable":
        monkeypatch.setenv("AWS_PROFILE", "team")
    provider = S3Provider(bucket, f"profile-{by}", S3Options(s3.url, profile="team" if by == "option" else None))
    provider.write("a", b"1")
    assert provider.read("a") == b"1"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "OperationAborted"])
def test_a_conflict_that_passes_is_no_refusal(provider, proxy, code):
    """S3 says 409 while two writers are at one key; nothing is stored then."""
    for put, name in ((provider.write, "a"), (provider.create, "b")):
        proxy.faults = [Fault("status", "PUT", status=409, code=code, times=2)]
        put(name, b"mine")
        assert provider.read(name) == b"mine"


def test_the_quick_way_is_left_where_it_leads_nowhere(provider, monkeypatch):
    """A certificate that s3fs alone knows, say."""
    tried = []

    def fail(*_, **__):
        tried.append(1)
        raise OSError

    monkeypatch.setattr("obstore.put", fail)
    s3_calls._connections.clear()
    for n in range(2 * s3_calls.MOST_MISSED):
        provider.write(f"{n}", b"1")
    assert len(tried) == s3_calls.MOST_MISSED
    assert provider.list() == [f"{n}" for n in range(2 * s3_calls.MOST_MISSED)]


def test_the_quick_way_is_left_where_threads_missed_at_once(provider, monkeypatch):
    """So that none of them sees exactly the number that is too many."""
    connection = s3_calls.connection_for(provider.bucket, provider.options)
    monkeypatch.setattr("obstore.put", _fail)
    connection._missed = s3_calls.MOST_MISSED
    provider.write("a", b"1")
    assert connection._quick.store is None


def _fail(*_, **__):
    raise OSError


@pytest.mark.usefixtures("impatient")
def test_the_quick_way_takes_from_the_time_there_is(provider, proxy, monkeypatch):
    def hang(*_, **__):
        time.sleep(0.6)
        raise OSError

    monkeypatch.setattr("obstore.put", hang)
    monkeypatch.setattr(s3_calls, "DEADLINE_S", 0.5)
    proxy.faults = [Fault("status", "PUT")]
    with pytest.raises(StorageError, match=r"\(2 attempts\)"):
        provider.write("a", b"1")
    assert proxy.verbs() == {"PUT": 1}


def test_the_quick_way_is_for_endpoints_with_plain_credentials(monkeypatch, tmp_path):
    monkeypatch.setattr(s3_put, "_process", None)
    here = S3Options("https://s3.example:9000")
    assert s3_put.quick_put("bucket", here).store is not None
    for options in (
        S3Options(region="eu-west-1"),
        replace(here, anonymous=True),
        replace(here, path_style=False),
        replace(here, profile="absent"),
    ):
        assert s3_put.quick_put("bucket", options).store is None
    with monkeypatch.context() as patch:
        patch.setenv("AWS_CA_BUNDLE", str(tmp_path / "own.pem"))
        assert s3_put.quick_put("bucket", here).store is None
    with monkeypatch.context() as patch:
        patch.delenv("AWS_SECRET_ACCESS_KEY")
        assert s3_put.quick_put("bucket", here).store is None


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
def test_what_is_put_lands_where_the_endpoint_says(provider, proxy, s3, monkeypatch, name):
    """Not where a variable says that obstore reads by itself."""
    with fault_proxy(s3.url) as elsewhere:
        monkeypatch.setenv(name, elsewhere.url)
        provider.write("a", b"1")
        assert provider.create("b", b"2")
        assert elsewhere.seen == []
    assert proxy.verbs()["PUT"] == 2
    assert s3_calls.connection_for(provider.bucket, provider.options)._quick.store is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_SKIP_SIGNATURE", "true"),
        ("AWS_SERVER_SIDE_ENCRYPTION", "AES256"),
        ("AWS_CONDITIONAL_PUT", "disabled"),
        ("AWS_UNSIGNED_PAYLOAD", "true"),
        ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true"),
    ],
)
def test_what_obstore_alone_would_read_changes_nothing(provider, proxy, monkeypatch, name, value):
    provider.write("before", b"1")
    monkeypatch.setenv(name, value)
    proxy.headers.clear()
    assert provider.create("a", b"2")
    assert provider.read("a") == b"2"
    headers = proxy.headers[0]
    assert "s3/aws4_request" in headers["authorization"]
    assert "x-amz-server-side-encryption" not in headers
    assert headers["x-amz-content-sha256"] == sha256_of(b"2")


@pytest.mark.usefixtures("s3")
def test_credentials_and_an_authority_do_not_bar_the_quick_way(monkeypatch):
    """An authority matters to TLS alone."""
    monkeypatch.setattr(s3_put, "_process", None)
    for name in ("AWS_CA_BUNDLE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "x")
    assert s3_put.quick_put("bucket", S3Options("http://127.0.0.1:1")).store is not None


def test_a_fork_writes_too(provider):
    """The threads of obstore do not survive it."""
    provider.write("before", b"1")
    child = multiprocessing.get_context("fork").Process(target=provider.write, args=("after", b"2"))
    child.start()
    child.join(60)
    if child.exitcode is None:
        child.kill()
    assert child.exitcode == 0
    assert provider.read("after") == b"2"


def test_the_quick_way_and_the_careful_one_ask_for_the_same(provider, proxy, monkeypatch):
    """One PUT each; the careful way is taken where obstore cannot be, as with virtual hosts at an endpoint."""
    asked = []
    for careful in (False, True):
        sent = []
        monkeypatch.setattr(s3_calls.Connection, "_send", _noted(sent))
        if careful:
            monkeypatch.setattr(s3_calls, "quick_put", lambda *_: QuickPut(None))
        s3_calls._connections.clear()
        proxy.headers.clear()
        ours = S3Provider(provider.bucket, f"{provider.prefix}/{careful}", provider.options)
        ours.write("a", b"1")
        assert ours.create("b", b"2")
        assert len(sent) == (2 if careful else 0)
        names = ("x-amz-meta-sha256", "if-none-match")
        asked.append([[headers.get(name) for name in names] for headers in proxy.headers])
        assert all("x-amz-meta-writer" in headers for headers in proxy.headers)
    assert asked[0] == asked[1] == [[sha256_of(b"1"), None], [sha256_of(b"2"), "*"]]


@pytest.mark.usefixtures("impatient")
def test_both_ways_ask_for_the_encryption(provider, proxy):
    """SeaweedFS has no keys, so it refuses; first the quick way, then the careful one."""
    proxy.headers.clear()
    options = replace(provider.options, sse="kms", sse_kms_key_id="k")
    with pytest.raises(StorageError, match=rf"\({MANY} attempts\)"):
        S3Provider(provider.bucket, "sse", options).write("a", b"")
    names = ("x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id")
    assert {tuple(headers.get(name) for name in names) for headers in proxy.headers} == {("aws:kms", "k")}
    assert len(proxy.headers) == MANY


def _noted(sent):
    send = s3_calls.Connection._send

    async def note(self, call):
        sent.append(call.method)
        return await send(self, call)

    return note


@pytest.mark.parametrize("options", [{"sse": "rot13"}, {"sse_kms_key_id": "k"}, {"checksums": "never"}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(StorageError):
        S3Options(**options)


def test_objects_of_others_and_markers_of_folders(provider, s3):
    client = s3.client()
    for key in ("theirs/", "theirs/x", ".tmp-1", ".probe-2"):
        client.put_object(Bucket=provider.bucket, Key=f"{provider.prefix}/{key}", Body=b"" if key[-1] == "/" else b"1")
    assert provider.list() == ["theirs/x"]
    assert list(provider.tags()) == ["theirs/x"]
    assert provider.leftovers(0.0) == [".probe-2", ".tmp-1"]
    assert provider.leftovers(3600.0) == []
    provider.remove_leftover(".probe-2")
    assert provider.leftovers(0.0) == [".tmp-1"]
    assert provider.stat("theirs/x").checksum.startswith("6b86b273")
