"""The output of a Ray job as it grows, from an asynchronous stream to whoever waits for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp


class Tail:
    """One connection that sends the output from its beginning on."""

    def __init__(self, chunks: AsyncIterator[str]) -> None:
        """chunks: as `JobSubmissionClient.tail_job_logs` gives them."""
        self._loop = asyncio.new_event_loop()
        self._chunks = chunks
        self._next: asyncio.Task[str | None] | None = None

    def more(self, seconds: float) -> str | None:
        """What comes next; "" after so long without, None at the end. Raises ConnectionError and RuntimeError."""
        if self._next is None:
            self._next = self._loop.create_task(self._step())
        self._loop.run_until_complete(asyncio.wait([self._next], timeout=seconds))
        if not self._next.done():
            return ""
        done, self._next = self._next, None
        try:
            return done.result()
        except aiohttp.ClientError as error:
            raise ConnectionError(str(error) or type(error).__name__) from error

    def close(self) -> None:
        """Leave the connection, whatever it is at."""
        if self._next is not None:
            self._next.cancel()
            with suppress(asyncio.CancelledError, Exception):
                self._loop.run_until_complete(self._next)
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _step(self) -> str | None:
        return await anext(self._chunks, None)
