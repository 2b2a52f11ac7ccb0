"""A proxy in front of an HTTP server that misbehaves as it is told, and remembers what passed.

The Host header goes through as it came, so signatures made for the proxy's address stay valid.
"""

import asyncio
import io
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "proxy-connection", "trailer"}


@dataclass(eq=False)
class Fault:
    """What to do to requests whose method, path and query match; the first fault that matches acts.

    action: status (an S3 error `code`), reset (the server never sees it), reset_after (the server acts, the answer is
    lost), truncate (to `length` bytes), flip (one bit at `length`) or none. times: how often, None for ever. p: chance.
    struck: to how many requests it was done.
    """

    action: str = "none"
    method: str = ".*"
    path: str = ""
    status: int = 503
    code: str = "SlowDown"
    length: int = 0
    latency_s: float = 0.0
    times: int | None = None
    p: float = 1.0
    struck: int = 0

    def takes(self, request: web.Request, chance: random.Random) -> bool:
        fits = re.fullmatch(self.method, request.method) and re.search(self.path, request.raw_path)
        if not fits or self.times == 0 or chance.random() >= self.p:
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass
class FaultProxy:
    """The proxy's address, its faults, and the requests that came: (verb, path, action)."""

    upstream: str
    url: str = ""
    faults: list[Fault] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    def verbs(self, path: str = "") -> Counter[str]:
        """How many requests of each kind came for keys that match; a LIST is a GET of a bucket."""
        return Counter(verb for verb, at, _ in self.seen if re.search(path, at))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        fault = next((f for f in self.faults if f.takes(request, self.chance)), Fault())
        verb = "LIST" if request.method == "GET" and "list-type=2" in request.query_string else request.method
        self.seen.append((verb, request.raw_path, fault.action))
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        await asyncio.sleep(fault.latency_s)
        fault.struck += fault.action not in ("truncate", "flip")
        if fault.action == "reset":
            _reset(request)
        if fault.action == "status":
            await request.read()
            error = f"<?xml version='1.0'?><Error><Code>{fault.code}</Code><Message>injected</Message></Error>"
            body = b"" if request.method == "HEAD" else error.encode()
            return web.Response(status=fault.status, content_type="application/xml", body=body)
        return await self._forward(request, fault)

    async def _forward(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        headers = [(k, v) for k, v in request.headers.items() if k.lower() not in _HOP]
        sent = io.BytesIO(await request.read()) if request.body_exists else None
        automatic = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
        at = URL(self.upstream + request.raw_path, encoded=True)
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                request.method, at, headers=headers, data=sent, allow_redirects=False, skip_auto_headers=automatic
            ) as answer,
        ):
            data = bytearray(await answer.read())
            if fault.action == "reset_after":
                _reset(request)
            kept = [(k, v) for k, v in answer.headers.items() if k.lower() not in _HOP]
            out = web.StreamResponse(status=answer.status, reason=answer.reason, headers=kept)
            if fault.action == "flip" and len(data) > fault.length:
                data[fault.length] ^= 1
                fault.struck += 1
            await out.prepare(request)
            if fault.action == "truncate" and len(data) > fault.length:
                await out.write(bytes(data[: fault.length]))
                fault.struck += 1
                _reset(request)
            if request.method != "HEAD":
                await out.write(bytes(data))
            await out.write_eof()
            return out


def _reset(request: web.Request) -> None:
    transport = request.transport
    if transport is not None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    raise asyncio.CancelledError


@contextmanager
def fault_proxy(upstream: str, host: str = "127.0.0.1") -> Iterator[FaultProxy]:
    """The proxy, in a thread of this process, for as long as the block lasts. host: an address of this machine."""
    proxy, loop, ready = FaultProxy(upstream), asyncio.new_event_loop(), threading.Event()

    async def serve() -> web.AppRunner:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{rest:.*}", proxy.handle)
        runner: Any = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, host, 0)
        await site.start()
        proxy.url = f"http://{host}:{runner.addresses[0][1]}"
        ready.set()
        return runner

    def work() -> None:
        runner = loop.run_until_complete(serve())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    ready.wait(60)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
