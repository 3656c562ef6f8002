"""Reading Parquet starts no thread, and says what is missing or damaged."""

import io
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from amuro_jax import parquet

TABLE = pa.table({"row": [0, 1, 2], "score": [0.5, 1.0, 0.0], "text": ["a", "", "b"]})


@pytest.fixture
def data():
    buffer = io.BytesIO()
    pq.write_table(TABLE, buffer, write_page_checksum=True)
    return buffer.getvalue()


def test_bytes_and_files(data, tmp_path):
    (tmp_path / "x.parquet").write_bytes(data)
    assert parquet.read(data).equals(TABLE)
    assert parquet.read(str(tmp_path / "x.parquet")).equals(TABLE)
    assert parquet.read(data, ["score", "row"]).equals(TABLE.select(["score", "row"]))
    assert pa.Table.from_batches(parquet.batches(io.BytesIO(data))).equals(TABLE)


def test_what_cannot_be_read(data):
    with pytest.raises(KeyError, match="no column scores"):
        parquet.read(data, ["row", "scores"])
    with pytest.raises(pa.ArrowException):
        parquet.read(data[:-3])
    changed = bytearray(data)
    changed[data.index(b"PAR1") + 40] ^= 1
    with pytest.raises(OSError, match="CRC|checksum"):
        parquet.read(bytes(changed), checksums=True)


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_no_thread_is_started(data, tmp_path):
    path = tmp_path / "x.parquet"
    path.write_bytes(data)
    code = f"""
import os
from amuro_jax import parquet
count = lambda: len(os.listdir("/proc/self/task"))
before = count()
data = open({str(path)!r}, "rb").read()
parquet.read(data), parquet.read(data, ["row"], checksums=True)
print(count() - before)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "0"
