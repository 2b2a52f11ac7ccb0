"""The one door to SeaweedFS: passes on what comes in at LISTEN to STORE, byte by byte, and nothing else.

`door.py LISTEN STORE`, each HOST:PORT. SeaweedFS asks for keys where it speaks S3, and nobody at its filer, master and
volumes, through which everything may be read and deleted. So it has a network of its own, and nodes reach this.
"""

import asyncio
import contextlib
import sys
from functools import partial

CHUNK = 1 << 18


def place(text: str) -> tuple[str, int]:
    """HOST:PORT as the two."""
    host, _, port = text.rpartition(":")
    return host, int(port)


async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Until the source says that no more comes, which the target is told."""
    while data := await source.read(CHUNK):
        target.write(data)
        await target.drain()
    target.write_eof()


async def passed(store: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, both ways. It ends with either side, or where the store is away, without a word."""
    with contextlib.closing(writer), contextlib.suppress(OSError):
        back, forth = await asyncio.open_connection(*store)
        with contextlib.closing(forth):
            await asyncio.gather(copy(reader, forth), copy(back, writer))


async def main(listen: str, store: str) -> None:
    """Serve until ended."""
    server = await asyncio.start_server(partial(passed, place(store)), *place(listen))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
