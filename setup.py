"""Builds the compiled core of flowfeatures; everything else about the package stands in pyproject.toml."""

from Cython.Build import cythonize
from setuptools import Extension, setup

COMPILED = [
    *("frames", "packet", "octets", "walk", "pcap", "pcapng", "files", "ring", "keep"),
    *("counters", "flow", "vector", "pool", "wheel", "lifetimes", "table"),
    *("homes", "recent", "device", "window"),
]

setup(
    ext_modules=cythonize(
        [
            Extension(f"flowfeatures.{name}", [f"flowfeatures/{name}.pyx"], extra_compile_args=["-O3"])
            for name in COMPILED
        ],
        nthreads=2,
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
        },
    ),
    options={"build_ext": {"parallel": 2}},
)
