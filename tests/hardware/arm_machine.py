"""A 64-bit ARM machine for tests on any other: unicorn runs a static Linux program, whose functions are then called.

The processor is a Cortex-A53, ARMv8.0 without extensions: an instruction beyond those is an error.
"""

import struct

import numpy as np
import unicorn
from unicorn import arm64_const as arm

PAGE = 4096
STACK, STACK_SIZE = 0x7000_0000, 1 << 20
HEAP = 0x10_0000_0000
ARRAYS = 0x20_0000_0000
BACK = 0x7FFF_0000  # where calls return to: nothing is there
ARGUMENTS = [getattr(arm, f"UC_ARM64_REG_X{i}") for i in range(8)]
WRITE, SET_TID_ADDRESS, MUNMAP, MMAP = 64, 96, 215, 222


class Machine:
    """A program that has run until it wrote the addresses of its functions, in the order of `names`."""

    def __init__(self, program: bytes, names):
        self.uc = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        self.uc.ctl_set_cpu_model(arm.UC_CPU_ARM64_A53)
        self.uc.reg_write(arm.UC_ARM64_REG_CPACR_EL1, 3 << 20)  # floating point and NEON do not trap
        self.uc.hook_add(unicorn.UC_HOOK_INTR, self._system_call)
        self.heap, self.arrays, self.written = HEAP, [], b""
        self.uc.mem_map(STACK - STACK_SIZE, STACK_SIZE)
        self._start(*self._load(program))
        self.functions = dict(zip(names, struct.unpack(f"<{len(names)}Q", self.written), strict=True))

    def call(self, name, *arguments):
        """A function of plain C: whole numbers and addresses in, an int out."""
        for register, argument in zip(ARGUMENTS, arguments, strict=False):
            self.uc.reg_write(register, argument)
        self.uc.reg_write(arm.UC_ARM64_REG_SP, STACK - PAGE)
        self.uc.reg_write(arm.UC_ARM64_REG_LR, BACK)
        self.uc.emu_start(self.functions[name], BACK)
        return self.uc.reg_read(arm.UC_ARM64_REG_W0)

    def lend(self, array):
        """The address of a copy, whose end is the end of the readable memory there."""
        data = np.ascontiguousarray(array).tobytes()
        begin = self.arrays[-1][0] + self.arrays[-1][1] + PAGE if self.arrays else ARRAYS
        size = max(1, -(-len(data) // PAGE)) * PAGE
        self.uc.mem_map(begin, size)
        self.arrays.append((begin, size))
        address = begin + size - len(data)
        self.uc.mem_write(address, data)
        return address

    def read(self, address, shape):
        """A float32 array."""
        data = self.uc.mem_read(address, 4 * int(np.prod(shape)))
        return np.frombuffer(bytes(data), np.float32).reshape(shape)

    def release(self):
        """Ends all loans."""
        for begin, size in self.arrays:
            self.uc.mem_unmap(begin, size)
        self.arrays = []

    def _load(self, program):
        """Segments to their places; the entry, and what the C library is told of the segments."""
        entry, headers = struct.unpack_from("<QQ", program, 24)
        size, count = struct.unpack_from("<HH", program, 54)
        base = None
        for i in range(count):
            kind, _, offset, address, _, stored, length, _ = struct.unpack_from(
                "<IIQQQQQQ", program, headers + i * size
            )
            if kind != 1:
                continue
            base = address - offset if base is None else base
            first, last = address // PAGE * PAGE, -(-(address + length) // PAGE) * PAGE
            self.uc.mem_map(first, last - first)
            self.uc.mem_write(address, program[offset : offset + stored])
        return entry, {3: base + headers, 4: size, 5: count, 6: PAGE}

    def _start(self, entry, auxiliary):
        """Runs from the entry; the stack holds no arguments, no environment and the auxiliary vector."""
        words = [0, 0, 0, *(word for pair in auxiliary.items() for word in pair), 0, 0]
        top = STACK - PAGE
        self.uc.mem_write(top, struct.pack(f"<{len(words)}Q", *words))
        self.uc.reg_write(arm.UC_ARM64_REG_SP, top)
        self.uc.emu_start(entry, BACK)

    def _system_call(self, uc, *_):
        """What the C library needs to start and to allocate; everything else is not implemented."""
        number = uc.reg_read(arm.UC_ARM64_REG_X8)
        second, third = (uc.reg_read(register) for register in ARGUMENTS[1:3])
        result = 2**64 - 38
        if number == WRITE:
            self.written = bytes(uc.mem_read(second, third))
            uc.emu_stop()
        elif number in (SET_TID_ADDRESS, MUNMAP):
            result = 0
        elif number == MMAP:
            result, size = self.heap, -(-second // PAGE) * PAGE
            uc.mem_map(result, size)
            self.heap += size + PAGE
        uc.reg_write(ARGUMENTS[0], result)
