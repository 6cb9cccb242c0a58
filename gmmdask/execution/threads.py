"""One BLAS and one OpenMP thread: two change the bits of a matrix product, and fight with tasks for the cores."""

import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_users = 0
_blas: Any = None
_here = threading.local()


@lru_cache(maxsize=1)
def _found(modules: int) -> tuple[Any, Any]:
    controller = ThreadpoolController()
    return controller.select(user_api="blas"), controller.select(user_api="openmp")


def _libraries() -> tuple[Any, Any]:
    """The BLAS and the OpenMP libraries of this process: looked for again when modules came, which bring them."""
    return _found(len(sys.modules))


def _free(libraries: Any) -> None:
    """Lets this thread set the number of libraries that threadpoolctl leaves to the thread that set it first."""
    for library in libraries.lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)


def _limited(libraries: Any) -> bool:
    return all(library.num_threads == 1 for library in libraries.lib_controllers)


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it BLAS and OpenMP run with one thread.

    BLAS does until the last of several concurrent users leaves. OpenMP's number is one of each calling thread, so it is
    limited, and given back, in every thread that enters.
    """
    global _users, _blas
    openmp = None
    with _lock:
        blas_here, openmp_here = _libraries()
        _users += 1
        if _users == 1:
            _free(blas_here)
            _blas = blas_here, blas_here.limit(limits=1)
        elif not _limited(blas_here):  # a library came since, or somebody else set the number
            _free(blas_here)
            blas_here.limit(limits=1)
        _here.depth = getattr(_here, "depth", 0) + 1
        if _here.depth == 1:
            openmp = openmp_here.limit(limits=1)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            _here.depth -= 1
            if openmp is not None:
                openmp.restore_original_limits()
            if _users == 0:
                libraries, limits = _blas
                _free(libraries)
                limits.restore_original_limits()
                _free(libraries)


def one_thread_for_good() -> None:
    """For a worker process: limits it once, unless a fit in this process has done so.

    The libraries that tasks use are loaded first: one that comes later would not be limited.
    """
    for module in ("numpy", "scipy.linalg.cython_blas"):
        importlib.import_module(module)
    with _lock:
        if _users == 0:
            for libraries in _libraries():
                _free(libraries)
                libraries.limit(limits=1)
