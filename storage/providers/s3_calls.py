"""Requests to S3: one connection a process and bucket, retries with a deadline, and errors in words."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from storage.errors import Forbidden, NotFound, StorageError
from storage.providers.s3_options import S3Options
from storage.providers.s3_put import NotStored, QuickPut, quick_put

ATTEMPTS = 30
DEADLINE_S = 90.0
LONGEST_PAUSE_S = 10.0
UNHEARD_ATTEMPTS = 4
"""Of a store that has never answered this process: its address is more likely wrong than the network."""
MOST_DAMAGED = 3  # answers that are not what was stored: on the way that heals, and at rest it does not
MOST_MISSED = 3
_PASSING = {
    "SlowDown",
    "ServiceUnavailable",
    "InternalError",
    "RequestTimeout",
    "OperationAborted",
    "BadDigest",
    "IncompleteBody",
    "XAmzContentSHA256Mismatch",
    "ConditionalRequestConflict",
    "Throttling",
}
_REASONS = {
    "NoSuchBucket": "there is no such bucket; make it, or name another",
    "AccessDenied": "the credentials have no right to do this",
    "InvalidAccessKeyId": "the store does not know the access key; check AWS_ACCESS_KEY_ID or the profile",
    "SignatureDoesNotMatch": "the secret key is not the one that belongs to the access key, or the region is wrong",
    "ExpiredToken": "the credentials have expired; get new ones",
    "RequestTimeTooSkewed": "this machine's clock is wrong by more than the store accepts; set it by NTP",
    "PermanentRedirect": "the bucket is in another region; state that region",
    "AuthorizationHeaderMalformed": "the region is not that of the bucket; state the right one",
    "InvalidBucketName": "this is no name that a bucket can have",
    "NotImplemented": "the store does not support this request; use another store",
}
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError")
_BY_STATUS = {
    400: "the store calls the request bad; check endpoint and region, which may be those of another store",
    301: _REASONS["PermanentRedirect"],
    403: _REASONS["AccessDenied"] + ", or the object is absent and they may not list",
}


class Damaged(Exception):  # noqa: N818 - an answer, not a fault of ours
    """An answer came, and its content is not what was stored."""


@dataclass(frozen=True)
class Answer:
    """The fields of a reply, and the content where there is one."""

    fields: dict[str, Any]
    body: bytes = b""

    @property
    def size(self) -> int:
        return int(self.fields["ContentLength"])


@dataclass(frozen=True)
class Call:
    """One operation: what is done to which object, for messages, and the request that does it.

    check: raises `Damaged` for an answer that must not be used.
    """

    action: str
    path: str
    method: str
    arguments: dict[str, Any] = field(repr=False)
    check: Callable[[Answer], None] | None = None


@dataclass
class Refused(Exception):  # noqa: N818 - told to the user as a StorageError
    """A call that did not succeed: how often it was tried, and the last failure."""

    call: Call
    where: str
    attempts: int
    error: BaseException

    @property
    def status(self) -> int | None:
        """HTTP status of the last failure; None when no answer came."""
        return status_of(self.error)

    def told(self) -> StorageError:
        """The error in words; a GET or HEAD of what is not there is a `NotFound`."""
        code = code_of(self.error)
        path = f" {self.call.path!r}" if self.call.path else ""
        what = f"Could not {self.call.action}{path} in {self.where}"
        absent = self.status == 404 and code != "NoSuchBucket"
        if absent and self.call.method in ("get_object", "head_object", "delete_object"):
            return NotFound(f"{what}: there is no such object.")
        tries = f" ({self.attempts} attempts)" if self.attempts > 1 else ""
        forbidden = code == "AccessDenied" or (self.status == 403 and code not in _REASONS)
        kind = Forbidden if forbidden else StorageError
        return kind(f"{what}: {reason_of(self.error)}{tries}.")


class Connection:
    """One bucket from one process; threads may share it.

    The layers below try once: what they would repeat by themselves could be neither counted nor bounded here.
    """

    def __init__(self, bucket: str, options: S3Options) -> None:
        import s3fs

        self._bucket = bucket
        self._options = options
        self._filesystem = s3fs.S3FileSystem(**options.of_filesystem())
        self._filesystem.retries = 1
        self._quick: QuickPut | None = None
        self._missed = 0
        self._answered = False

    def put(self, call: Call, uri: str) -> bool:
        """Store an object: once by the quick way, which is the first attempt, and for the rest as `run` does.

        False where one is there that was not to be overwritten. Raises `Refused`.
        """
        began, tried = time.monotonic(), 0
        try:
            if self._put_quickly(call):
                self._answered = True
                return True
        except NotStored:
            tried = 1
        try:
            self.run(call, uri, tried, began)
        except Refused as refusal:
            if refusal.status != 412:
                raise
            return False
        return True

    def _put_quickly(self, call: Call) -> bool:
        """Raises `NotStored`; after several times running it is left, as only s3fs may know what is in the way."""
        if self._quick is None:
            self._quick = quick_put(self._bucket, self._options)
        try:
            stored = self._quick(call.arguments)
        except NotStored:
            self._missed += 1
            if self._missed >= MOST_MISSED:
                self._quick = QuickPut(None)
            raise
        self._missed = 0
        return stored

    def run(self, call: Call, uri: str, attempts: int = 0, began: float | None = None) -> Answer:
        """Send until it succeeds, is refused for good, or time or attempts run out. Raises `Refused`.

        uri: of the store that asks, for messages. attempts: made before, since `began`.
        """
        until, damaged = (time.monotonic() if began is None else began) + DEADLINE_S, 0

        def once() -> Answer:
            nonlocal attempts
            attempts += 1
            if attempts > 1:
                _count_retry()
            return self._once(call)

        def is_enough(state: RetryCallState) -> bool:
            nonlocal damaged
            damaged += state.outcome is not None and isinstance(state.outcome.exception(), Damaged)
            most = ATTEMPTS if self._answered else UNHEARD_ATTEMPTS
            return attempts >= most or damaged >= MOST_DAMAGED or time.monotonic() >= until

        retrying = Retrying(
            stop=is_enough,
            wait=wait_random_exponential(multiplier=0.2, max=LONGEST_PAUSE_S),
            retry=retry_if_exception(_passes),
            reraise=True,
        )
        try:
            return retrying(once)
        except Exception as error:
            if isinstance(error, StorageError) or not _is_foreign(error):
                raise
            where = uri if self._options.endpoint_url else f"{uri} ({self._options.place()})"
            raise Refused(call, where, attempts, error) from error

    def _once(self, call: Call) -> Answer:
        from fsspec.asyn import sync

        try:
            answer = cast(Answer, sync(self._filesystem.loop, self._send, call))
        except Exception as error:
            self._answered = self._answered or status_of(error) is not None
            raise
        self._answered = True
        if call.check is not None:
            call.check(answer)
        return answer

    async def _send(self, call: Call) -> Answer:
        reply = await asyncio.wait_for(
            self._filesystem._call_s3(call.method, Bucket=self._bucket, **call.arguments), DEADLINE_S
        )
        if call.method != "get_object":
            return Answer(reply)
        async with reply["Body"] as body:
            return Answer(reply, await asyncio.wait_for(body.read(), DEADLINE_S))


_connections: dict[tuple[object, ...], Connection] = {}


def connection_for(bucket: str, options: S3Options) -> Connection:
    """This process's connection, made when first asked for; credentials in the environment may change."""
    stated = tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))
    key = (os.getpid(), bucket, options, stated)
    if key not in _connections:
        _connections[key] = Connection(bucket, options)
    return _connections[key]


_retries = 0
_counting = threading.Lock()


def retries_here() -> int:
    """How many requests this process has sent again, ever."""
    return _retries


def _count_retry() -> None:
    global _retries
    with _counting:
        _retries += 1


def status_of(error: BaseException) -> int | None:
    """HTTP status behind an error of s3fs."""
    found = _response(error).get("ResponseMetadata", {}).get("HTTPStatusCode")
    return int(found) if found is not None else None


def code_of(error: BaseException) -> str:
    """S3's error code behind an error of s3fs; empty where there is none."""
    return str(_response(error).get("Error", {}).get("Code", ""))


def reason_of(error: BaseException) -> str:
    """Why, in words that hold nothing secret: never what the server or a library wrote."""
    code, status = code_of(error), status_of(error)
    if code in _REASONS or status in _BY_STATUS:
        return _REASONS.get(code) or _BY_STATUS[cast(int, status)]
    if status is not None:
        return f"the store answers {status} {code if code != str(status) else ''}".rstrip()
    if isinstance(error, Damaged):
        return f"the answer is damaged: {error}"
    kind = type(error).__name__
    if kind in _NO_CREDENTIALS:
        return "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
    if kind == "ProfileNotFound":
        return "there is no such profile in the AWS configuration of this machine"
    if kind in ("EndpointConnectionError", "ClientConnectorError", "ConnectTimeoutError", "ClientConnectorDNSError"):
        return "nothing answers there; check endpoint_url or AWS_ENDPOINT_URL, and the network"
    if isinstance(error, TimeoutError) or "Timeout" in kind:
        return "the store did not answer in time"
    return f"the connection broke ({kind})"


def _response(error: BaseException) -> dict[str, Any]:
    for one in (error, error.__cause__):
        found = getattr(one, "response", None)
        if isinstance(found, dict):
            return found
    return {}


def _passes(error: BaseException) -> bool:
    """Whether the same request may go well a moment later."""
    status = status_of(error)
    if status is None:
        return _is_foreign(error) and type(error).__name__ not in (*_NO_CREDENTIALS, "ProfileNotFound")
    return (status >= 500 and status != 501) or status in (408, 409, 429) or code_of(error) in _PASSING


def _is_foreign(error: BaseException) -> bool:
    """An error of the connection, and not one of our own code."""
    from aiohttp import ClientError
    from botocore.exceptions import BotoCoreError, HTTPClientError, ParamValidationError

    broken = (OSError, TimeoutError, Damaged, BotoCoreError, HTTPClientError, ClientError)
    return isinstance(error, broken) and not isinstance(error, ParamValidationError)
