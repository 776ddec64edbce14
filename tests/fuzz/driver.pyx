"""libFuzzer in a Python process: `fuzz(call, arguments)` hands `call` one input after another, by coverage.

An exception that leaves `call` is a finding, and ends the process as a crash does. What libFuzzer exports must stand in
front of everything instrumented, so it is preloaded (build.py) and found here at run time. `forbid` makes octets
of a buffer forbidden, `heap_bytes` counts what is allocated; both are AddressSanitizer's.
"""

import traceback

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t
from libc.stdlib cimport abort, free, malloc


cdef extern from *:
    """
    #include <stddef.h>
    #include <stdint.h>
    extern int LLVMFuzzerRunDriver(int*, char***, int (*)(const uint8_t*, size_t));
    extern size_t __sanitizer_get_current_allocated_bytes(void);
    extern void __asan_poison_memory_region(void const volatile*, size_t);
    extern void __asan_unpoison_memory_region(void const volatile*, size_t);
    """
    int LLVMFuzzerRunDriver(int*, char***, int (*)(const uint8_t*, size_t) noexcept)
    size_t __sanitizer_get_current_allocated_bytes()
    void __asan_poison_memory_region(const void*, size_t)
    void __asan_unpoison_memory_region(const void*, size_t)


cdef object called


cdef int one_input(const uint8_t* octets, size_t size) noexcept:
    try:
        called((<const char*> octets)[:size])
    except BaseException:
        traceback.print_exc()
        abort()
    return 0


def fuzz(call, list arguments):
    """Run libFuzzer with these arguments (bytes); it ends the process itself where something is found."""
    global called
    cdef int i, count = len(arguments)
    cdef char** words = <char**> malloc((count + 1) * sizeof(char*))
    cdef char** given = words
    called = call
    for i in range(count):
        words[i] = arguments[i]
    words[count] = NULL
    try:
        return LLVMFuzzerRunDriver(&count, &given, one_input)
    finally:
        free(words)


def heap_bytes():
    """Return the octets that are allocated at this moment."""
    return __sanitizer_get_current_allocated_bytes()


def forbid(const uint8_t[::1] view, Py_ssize_t start):
    """Make the view's octets from `start` on forbidden to read."""
    if start < view.shape[0]:
        __asan_poison_memory_region(&view[start], view.shape[0] - start)


def allow(const uint8_t[::1] view):
    """Take `forbid` back."""
    if view.shape[0]:
        __asan_unpoison_memory_region(&view[0], view.shape[0])
