"""One BLAS and one OpenMP thread: two change the bits of a matrix product, and fight with tasks for the cores."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_info, threadpool_limits

_lock = threading.Lock()
_users = 0
_limits: threadpool_limits | None = None


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it, and until the last of several concurrent users leaves, BLAS and OpenMP run with one thread."""
    global _users, _limits
    with _lock:
        _users += 1
        if _users == 1:
            _limits = threadpool_limits(limits=1)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0 and _limits is not None:
                _limits.restore_original_limits()
                _limits = None


def one_thread_for_good() -> None:
    """For a worker process: limits it once, unless a fit in this process has done so."""
    with _lock:
        if _users == 0 and any(library["num_threads"] != 1 for library in threadpool_info()):
            threadpool_limits(limits=1)
