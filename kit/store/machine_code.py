"""Functions that numba compiles, as machine code in a cache, which is loaded without numba.

    segment = machine_code.function("kit.corpus.segmenters.search", "segment")
    segment(array.ctypes.data, len(array))    # addresses and numbers

numba takes half a second to start and seconds to compile; such code is there in a thirtieth of a second.
The function takes pointers and 64-bit integers, as `SIGNATURE` of its module says, and returns one; it
neither allocates nor raises. The cache is beside that of kit/store/numba_cache.py. A name in it has a hash
of the source, of numba's version and of the processor it is compiled for: nodes of different types use
different files.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import importlib.metadata
import importlib.util
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from kit.store.files import atomic, file_hash, text_hash

if TYPE_CHECKING:
    from collections.abc import Callable

_OF_OTHERS = re.compile(rb"\0(?:Py[A-Z]|NRT_|numba_)")  # names of functions of Python and numba
_TARGET = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")  # compile for another processor than this one


class NotCompiled(Exception):  # noqa: N818  what happened, as in KeyboardInterrupt
    """numba cannot be imported, or does not compile a function here: why, in one line."""


def folder() -> Path:
    """The folder of compiled code, shared by all runs. Raises RuntimeError without a home directory."""
    base = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "ekiden" / "numba"


@functools.cache
def function(module: str, name: str) -> Callable[..., int]:
    """A function of a module; it is compiled, unless the cache has it. Raises NotCompiled."""
    return cached(module, name) or _loaded(*_compiled(module, name))


def cached(module: str, name: str) -> Callable[..., int] | None:
    """The function if the cache has it, undamaged."""
    try:
        if not any(folder().glob(f"{_stem(module, name)}-*")):  # before llvmlite, which takes 50 ms
            return None
        digest, _, content = _file(module, name).read_bytes().partition(b"\n")
    except (ImportError, OSError, RuntimeError):  # RuntimeError: no home directory
        return None
    if digest != xxhash.xxh3_128_hexdigest(content).encode():
        return None
    symbol, _, code = content.partition(b"\n")
    return _loaded(symbol.decode(), code)


def part(helper: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a function that others of its module call."""
    import numba

    compiled: Callable[..., Any] = numba.njit(helper)
    return compiled


def _file(module: str, name: str) -> Path:
    import llvmlite.binding as llvm

    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None
    processor = (llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten())
    processor += tuple(os.environ.get(name, "") for name in _TARGET)
    facts = (file_hash(Path(found.origin)), importlib.metadata.version("numba"), processor)
    return folder() / f"{_stem(module, name)}-{text_hash(repr(facts)):016x}"


def _stem(module: str, name: str) -> str:
    return f"{module.rpartition('.')[2]}-{name}"


def _compiled(module: str, name: str) -> tuple[str, bytes]:
    """The name of a function in its machine code, and that; it is kept if the cache can be written."""
    try:
        symbol, code = _machine_code(module, name)
    except Exception as error:  # numba raises all kinds, from its import on
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise NotCompiled(f"numba does not compile {module}.{name} here ({reason:.200})") from error
    content = f"{symbol}\n".encode() + code
    with contextlib.suppress(OSError, RuntimeError), atomic(_file(module, name)) as file:
        file.write(f"{xxhash.xxh3_128_hexdigest(content)}\n".encode() + content)
    return symbol, code


def _machine_code(module: str, name: str) -> tuple[str, bytes]:
    import numba

    njit: Any = numba.njit
    source = importlib.import_module(module)
    alone = njit(source.SIGNATURE, no_cpython_wrapper=True, no_cfunc_wrapper=True)
    (compiled,) = alone(getattr(source, name)).overloads.values()
    code: bytes = compiled.library._get_compiled_object()  # as numba's own cache does
    assert not _OF_OTHERS.search(code), f"{module}.{name} allocates or raises"
    return compiled.fndesc.llvm_func_name, code


def _loaded(symbol: str, code: bytes) -> Callable[..., int]:
    """A function that calls the code, and holds Python's lock: two threads may have the same arrays."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    address = engine.get_function_address(symbol)
    assert address, symbol

    def call(*arguments: int) -> int:
        # numba's convention: places for the result and an exception, then the arguments.
        types = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * len(arguments)]
        result, raised = ctypes.c_int64(), ctypes.c_void_p()
        status = ctypes.PYFUNCTYPE(ctypes.c_int32, *types)(address)(
            ctypes.byref(result), ctypes.byref(raised), *arguments
        )
        assert status == 0, status
        return result.value

    call.engine = engine  # type: ignore[attr-defined]  # it owns the memory of the code
    return call
