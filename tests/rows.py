"""Comparing result rows bit for bit, NaN included."""

import hashlib

import pyarrow as pa


def digest(table: pa.Table) -> str:
    """sha256 over the rows; equal only when every bit of every row is."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks(), max_chunksize=1 << 30)
    return hashlib.sha256(sink.getvalue()).hexdigest()
