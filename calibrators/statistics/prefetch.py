"""The processor's prefetch instruction, for kernels compiled with numba, which has no name for it."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_READ, _SECOND_LEVEL, _DATA = 0, 2, 1
"""Arguments of LLVM's `llvm.prefetch`: what for, how near, which cache."""


@intrinsic
def prefetch(_typing_context, array, index):  # type: ignore[no-untyped-def]
    """Start to load the cache line of ``array[index]`` into the second-level cache, and wait for nothing.

    Unlike a read of the value it holds up no other instruction, however far the line is.

    Args:
        array: Contiguous, of one dimension.
        index: An integer; it need not lie in the array.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        values = context.make_array(signature.args[0])(context, builder, arguments[0])
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        instruction = builder.module.declare_intrinsic(
            "llvm.prefetch", [byte], ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        )
        address = builder.bitcast(builder.gep(values.data, [arguments[1]]), byte)
        builder.call(instruction, [address, number(_READ), number(_SECOND_LEVEL), number(_DATA)])
        return context.get_dummy_value()

    return types.void(array, index), generate
