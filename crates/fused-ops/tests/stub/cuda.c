/* A CUDA driver without a GPU: says that it has one of compute capability 9.0, keeps its memory on the host, and computes nothing.
 * Loaded in libcuda.so's place it lets the whole CUDA path run: NVIDIA's real compiler gets every kernel, and every launch's grid is
 * checked against the limits of CUDA. Results mean nothing. STUB_LAUNCHES names a file that gets a line for each launch.
 *
 * Only what CubeCL and this project call is here; a call of anything else ends with the name that is missing. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Result;
typedef uint64_t Address;
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2 };

static int context, stream, event;
static __thread void *current;

/* The device. */
Result cuInit(unsigned flags) { return SUCCESS; }
Result cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
Result cuDeviceGet(int *device, int ordinal) { *device = 0; return SUCCESS; }
Result cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
Result cuDeviceGetName(char *name, int size, int device) { snprintf(name, size, "stub"); return SUCCESS; }
Result cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 80ull << 30; return SUCCESS; }
Result cuMemGetInfo_v2(size_t *free, size_t *total) { *free = 70ull << 30; *total = 80ull << 30; return SUCCESS; }
Result cuDeviceGetUuid_v2(char *uuid, int device) { memset(uuid, 0, 16); return SUCCESS; }

/* An H100's, by the numbers of CUdevice_attribute. */
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
  switch (attribute) {
    case 1: case 2: case 3: *value = 1024; break;  /* threads of a block: all, along x, along y */
    case 4: *value = 64; break;                    /* along z */
    case 5: *value = 2147483647; break;            /* blocks of a grid along x */
    case 6: case 7: *value = 65535; break;         /* along y, z */
    case 8: *value = 48 << 10; break;              /* shared memory of a block */
    case 10: *value = 32; break;                   /* threads of a warp */
    case 12: case 82: *value = 65536; break;       /* registers of a block, of a multiprocessor */
    case 16: *value = 132; break;                  /* multiprocessors */
    case 38: *value = 50 << 20; break;             /* L2 */
    case 39: *value = 2048; break;                 /* threads of a multiprocessor */
    case 75: *value = 9; break;                    /* compute capability */
    case 76: *value = 0; break;
    case 81: *value = 228 << 10; break;            /* shared memory of a multiprocessor */
    case 97: *value = 227 << 10; break;            /* and of a block that asks for more */
    case 106: *value = 32; break;                  /* blocks of a multiprocessor */
    case 115: *value = 1; break;                   /* memory pools */
    default: *value = 0;
  }
  return SUCCESS;
}

/* Contexts, streams, events. */
Result cuDevicePrimaryCtxRetain(void **out, int device) { *out = &context; return SUCCESS; }
Result cuDevicePrimaryCtxRelease_v2(int device) { return SUCCESS; }
Result cuDevicePrimaryCtxSetFlags_v2(int device, unsigned flags) { return SUCCESS; }
Result cuCtxSetCurrent(void *context) { current = context; return SUCCESS; }
Result cuCtxGetCurrent(void **out) { *out = current; return SUCCESS; }
Result cuCtxGetDevice(int *device) { *device = 0; return SUCCESS; }
Result cuCtxSynchronize(void) { return SUCCESS; }
Result cuCtxWaitEvent(void *context, void *event) { return SUCCESS; }
Result cuCtxRecordEvent(void *context, void *event) { return SUCCESS; }
Result cuCtxGetStreamPriorityRange(int *least, int *greatest) { *least = 0; *greatest = -5; return SUCCESS; }
Result cuStreamCreate(void **out, unsigned flags) { *out = &stream; return SUCCESS; }
Result cuStreamCreateWithPriority(void **out, unsigned flags, int priority) { *out = &stream; return SUCCESS; }
Result cuStreamDestroy_v2(void *stream) { return SUCCESS; }
Result cuStreamSynchronize(void *stream) { return SUCCESS; }
Result cuStreamQuery(void *stream) { return SUCCESS; }
Result cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return SUCCESS; }
Result cuEventCreate(void **out, unsigned flags) { *out = &event; return SUCCESS; }
Result cuEventRecord(void *event, void *stream) { return SUCCESS; }
Result cuEventSynchronize(void *event) { return SUCCESS; }
Result cuEventQuery(void *event) { return SUCCESS; }
Result cuEventDestroy_v2(void *event) { return SUCCESS; }
Result cuEventElapsedTime(float *ms, void *from, void *to) { *ms = 1; return SUCCESS; }
Result cuEventElapsedTime_v2(float *ms, void *from, void *to) { *ms = 1; return SUCCESS; }

/* Memory, the host's. */
static Result allocate(void **out, size_t bytes) {
  if (posix_memalign(out, 512, bytes ? bytes : 1)) return OUT_OF_MEMORY;
  memset(*out, 0, bytes);
  return SUCCESS;
}
Result cuMemAlloc_v2(Address *out, size_t bytes) { return allocate((void **)out, bytes); }
Result cuMemAllocAsync(Address *out, size_t bytes, void *stream) { return allocate((void **)out, bytes); }
Result cuMemAllocHost_v2(void **out, size_t bytes) { return allocate(out, bytes); }
Result cuMemHostAlloc(void **out, size_t bytes, unsigned flags) { return allocate(out, bytes); }
Result cuMemFree_v2(Address at) { free((void *)at); return SUCCESS; }
Result cuMemFreeAsync(Address at, void *stream) { free((void *)at); return SUCCESS; }
Result cuMemFreeHost(void *at) { free(at); return SUCCESS; }
Result cuMemcpyHtoD_v2(Address to, const void *from, size_t bytes) { memcpy((void *)to, from, bytes); return SUCCESS; }
Result cuMemcpyDtoH_v2(void *to, Address from, size_t bytes) { memcpy(to, (void *)from, bytes); return SUCCESS; }
Result cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t n, void *s) { return cuMemcpyHtoD_v2(to, from, n); }
Result cuMemcpyDtoHAsync_v2(void *to, Address from, size_t n, void *s) { return cuMemcpyDtoH_v2(to, from, n); }
Result cuMemcpyDtoDAsync_v2(Address to, Address from, size_t n, void *s) { return cuMemcpyHtoD_v2(to, (void *)from, n); }
Result cuMemsetD8Async(Address at, unsigned char v, size_t n, void *s) { memset((void *)at, v, n); return SUCCESS; }

/* CUDA_MEMCPY2D: source, destination (x in bytes, y, kind, host, device, array, pitch), width in bytes, height. */
typedef struct { size_t x, y; unsigned kind; char *host; Address device; void *array; size_t pitch; } Side;
typedef struct { Side from, to; size_t width, height; } Copy;
static char *begin(const Side *s) { return (s->kind == 1 ? s->host : (char *)s->device) + s->y * s->pitch + s->x; }
Result cuMemcpy2DAsync_v2(const Copy *c, void *stream) {
  for (size_t row = 0; row < c->height; row++)
    memcpy(begin(&c->to) + row * c->to.pitch, begin(&c->from) + row * c->from.pitch, c->width);
  return SUCCESS;
}

/* Kernels: a function is its name. */
Result cuModuleLoadData(void **module, const void *image) { *module = &context; return SUCCESS; }
Result cuModuleUnload(void *module) { return SUCCESS; }
Result cuModuleGetFunction(void **function, void *module, const char *name) { *function = strdup(name); return SUCCESS; }
Result cuFuncSetAttribute(void *function, int attribute, int value) { return SUCCESS; }
Result cuFuncGetAttribute(int *value, int attribute, void *function) { *value = 0; return SUCCESS; }
Result cuLaunchKernel(void *function, unsigned bx, unsigned by, unsigned bz, unsigned tx, unsigned ty, unsigned tz,
                      unsigned shared, void *stream, void **arguments, void **extra) {
  static FILE *launches;
  const char *path = getenv("STUB_LAUNCHES");
  if (path && !launches && (launches = fopen(path, "a"))) setvbuf(launches, NULL, _IOLBF, 0);
  if (launches) fprintf(launches, "%s\n", (char *)function);
  if (!bx || !by || !bz || bx > 2147483647 || by > 65535 || bz > 65535 || !tx || !ty || !tz || tx > 1024 || ty > 1024 ||
      tz > 64 || tx * ty * tz > 1024 || shared > 227 << 10) {
    fprintf(stderr, "no grid: %s, blocks %u %u %u, threads %u %u %u, %u bytes\n", (char *)function, bx, by, bz, tx, ty, tz, shared);
    return INVALID_VALUE;
  }
  return SUCCESS;
}

Result cuGetErrorString(Result error, const char **text) { *text = "refused by the stub"; return SUCCESS; }
Result cuGetErrorName(Result error, const char **text) { *text = "STUB"; return SUCCESS; }
Result cuProfilerStop(void) { return SUCCESS; }
