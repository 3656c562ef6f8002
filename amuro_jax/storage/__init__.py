"""Where results are stored: a folder on a disk or a prefix in an object store (`gs://…`, any fsspec
URL), with the same operations.

Nothing is renamed and nothing is changed in place, because an object store can do neither:
- a file is written atomically (`replace`, `write_once`): a reader sees the old file or the new one;
- a unit of several files (`commit`) is there when its marker is, and the marker is written last;
- a log grows by lines (`append`): in a folder one file, in an object store one segment per writer,
  which `read_log` merges in the order of time;
- one process at a time works on something (`claim`, see `claims.py`).
"""

from amuro_jax.storage.interface import Storage
from amuro_jax.storage.local import LocalStorage
from amuro_jax.storage.objects import ObjectStorage

__all__ = ["LocalStorage", "ObjectStorage", "Storage"]
