/* The edge of libcudart that the TensorRT worker uses, on the host's memory. The files `memory` and `broken` in the
 * folder FAKE_TENSORRT make it run out of memory or break for good. Device addresses are odd on purpose: whoever looks
 * at one without copying from it first goes wrong. */
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <unistd.h>

#define DEVICE 1

static int last;

static int is_switched(const char *name) {
    char path[4096];
    const char *folder = getenv("FAKE_TENSORRT");
    snprintf(path, sizeof path, "%s/%s", folder ? folder : ".", name);
    return access(path, F_OK) == 0;
}

static int told(int code) { return last = code; }

static char *host(void *address) { return (char *)((size_t)address & ~(size_t)DEVICE); }

int cudaGetLastError(void) { int code = last; last = 0; return code; }

const char *cudaGetErrorString(int code) { return code == 2 ? "out of memory" : "an illegal memory access"; }

int cudaStreamCreate(void **stream) { *stream = (void *)0x57; return told(0); }

int cudaStreamSynchronize(void *stream) { return told(stream == (void *)0x57 ? 0 : 400); }

int cudaMalloc(void **address, size_t size) {
    char *memory = is_switched("memory") ? NULL : malloc(size);
    if (!memory) return told(2);
    memset(memory, 0xA5, size);
    *address = memory + DEVICE;
    return told(0);
}

int cudaFree(void *address) { free(host(address)); return told(0); }

int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) {
    if (is_switched("broken")) return told(700);
    if (((size_t)to & DEVICE) != (kind == 1) || ((size_t)from & DEVICE) != (kind == 2)) return told(1);
    if (stream != (void *)0x57) return told(400);
    memcpy(host(to), host((void *)from), size);
    return told(0);
}

int cudaGetDeviceProperties(void *properties, int device) {
    const char *name = getenv("FAKE_CUDA_DEVICE");
    memset(properties, 0x7F, 1032);
    strncpy(properties, name ? name : "Fake Tegra", 256);
    return told(device == 0 ? 0 : 101);
}

int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 5 : attribute == 76 ? 3 : -1;
    return told(device == 0 && *value >= 0 ? 0 : 1);
}
