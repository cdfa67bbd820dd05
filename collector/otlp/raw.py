"""Bytes by their address: reading, writing, copying, hashing and comparing them, compiled into the kernels.

`data` and `out` are addresses of buffers (`address(array)`), `at`, `start` and `end` are offsets into them: with plain
numbers Numba counts no references and LLVM inlines everything. The price is that only the callers know the bounds.
So: the input is hostile, every offset is compared with its `end` before it is followed, and a kernel makes room before
it writes. Nothing here raises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from collector.otlp.compiled import kernel

# An int64 and a bool in compiled code, whatever they may be for a type checker.
Int = Any
Flag = Any

_MIX = np.int64(-0x61C8864680B583EB)
_MIX_LENGTH = np.int64(0x2D358DCCAA6C78A5)


def instruction(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of kernels that is given as LLVM instructions."""
    compiled: Callable[..., Any] = intrinsic(function)
    return compiled


def _pointer(builder: Any, base: Any, offset: Any, bits: Int) -> Any:
    return builder.inttoptr(builder.add(base, offset), ir.IntType(bits).as_pointer())


@instruction
def address(typingctx: Any, array: Any) -> Any:  # noqa: ARG001
    """Where the bytes of a contiguous array begin. The array must outlive every use of it."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, ir.IntType(64))

    return types.int64(array), codegen


@instruction
def load8(typingctx: Any, data: Any, at: Any) -> Any:  # noqa: ARG001
    """The byte at data + at, as int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        return builder.zext(builder.load(_pointer(builder, args[0], args[1], 8)), ir.IntType(64))

    return types.int64(types.int64, types.int64), codegen


@instruction
def load64(typingctx: Any, data: Any, at: Any) -> Any:  # noqa: ARG001
    """The 8 bytes at data + at, little-endian."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        return builder.load(_pointer(builder, args[0], args[1], 64), align=1)

    return types.int64(types.int64, types.int64), codegen


@instruction
def store8(typingctx: Any, out: Any, at: Any, value: Any) -> Any:  # noqa: ARG001
    """out[at] = the low 8 bits of value."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        builder.store(builder.trunc(args[2], ir.IntType(8)), _pointer(builder, args[0], args[1], 8))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@instruction
def store64(typingctx: Any, out: Any, at: Any, value: Any) -> Any:  # noqa: ARG001
    """The 8 bytes of value to out[at : at + 8], little-endian."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        builder.store(args[2], _pointer(builder, args[0], args[1], 64), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@instruction
def copy(typingctx: Any, out: Any, at: Any, data: Any, offset: Any, size: Any) -> Any:  # noqa: ARG001
    """out[at : at + size] = data[offset : offset + size]; the two do not overlap."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        to, from_ = _pointer(builder, args[0], args[1], 8), _pointer(builder, args[2], args[3], 8)
        cgutils.raw_memcpy(builder, to, from_, args[4], 1)  # type: ignore[no-untyped-call]
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), codegen


@instruction
def prefetch(typingctx: Any, data: Any, at: Any) -> Any:  # noqa: ARG001
    """Asks for the cache line of data + at, ahead of its use; any address will do."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        pointer, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch", [pointer], ir.FunctionType(ir.VoidType(), [pointer, word, word, word])
        )
        builder.call(function, [_pointer(builder, args[0], args[1], 8), *(ir.Constant(word, n) for n in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@instruction
def fold(typingctx: Any, a: Any, b: Any) -> Any:  # noqa: ARG001
    """Both halves of the 128-bit product, xored: mixes every bit of both into all bits."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        high = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))
        return builder.xor(high, builder.trunc(product, ir.IntType(64)))

    return types.int64(types.int64, types.int64), codegen


@kernel
def _word(data: Int, at: Int, size: Int) -> Int:
    """Fewer than 8 bytes as one number."""
    value = 0
    for i in range(size):
        value |= load8(data, at + i) << (8 * i)
    return value


@kernel
def hash_bytes(data: Int, at: Int, size: Int, seed: Int) -> Int:
    """64 bits that depend on every byte and on the seed, 8 bytes at a time (multiply and fold)."""
    value = fold(seed ^ _MIX, size ^ _MIX_LENGTH)
    end = at + size
    while at + 8 <= end:
        value = fold(value ^ load64(data, at), _MIX)
        at += 8
    if at < end:
        rest = load64(data, end - 8) if size >= 8 else _word(data, at, end - at)
        value = fold(value ^ rest, _MIX_LENGTH)
    return fold(value, _MIX)


@kernel
def equal_bytes(data: Int, a: Int, b: Int, size: Int) -> Flag:
    """Whether data[a : a + size] and data[b : b + size] are the same bytes."""
    if size < 8:
        return _word(data, a, size) == _word(data, b, size)
    last = size - 8
    i = 0
    while i < last:
        if load64(data, a + i) != load64(data, b + i):
            return False
        i += 8
    return load64(data, a + last) == load64(data, b + last)


@kernel
def all_zero(data: Int, at: Int, size: Int) -> Flag:
    """Whether data[at : at + size] is zeros only; true for nothing."""
    while size > 0 and load8(data, at) == 0:
        at += 1
        size -= 1
    return size <= 0
