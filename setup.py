"""The native kernels; all else is in pyproject.toml. Without a C++ compiler the package installs without them."""

from setuptools import Extension, setup

NATIVE = "sparsearch/hardware/native"
FILES = (
    "dispatch", "threads", "bitmask_portable", "bitmask_neon", "bitmask_avx2", "bitmask_avx512", "bitmask_avx512_dot",
    "bitmask_avx512_int8", "bitmask_amx", "csr16",
)  # fmt: skip
INCLUDED = ("kernels.h", "places.h", "avx512.h", "bitmask_kinds.inc", "csr16_rows.inc")

setup(
    ext_modules=[
        Extension(
            "sparsearch.hardware.native.kernels",
            sources=[f"{NATIVE}/{file}.cpp" for file in FILES],
            depends=[f"{NATIVE}/{file}" for file in INCLUDED],
            extra_compile_args=["-std=c++17", "-O3", "-g0", "-pthread"],
            extra_link_args=["-pthread", "-ldl"],
            optional=True,
        )
    ]
)
