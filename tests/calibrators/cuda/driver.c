/* A CUDA driver in the host's memory: enough of libcuda.so.1 to run PyCUDA, and cuda.bindings up to 12.8, without a GPU.

   Streams do their work at once, unless they are captured. What a real driver refuses and a test wants to see refused is
   refused here: calls without a current context, unknown handles and addresses (which, as there, spoil the context for
   good), more memory than there is, what is not allowed while this thread captures. It knows nothing of kernels.

   DRIVER_DEVICES and DRIVER_VERSION in the environment set the number of GPUs (1) and the version (12040). */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int Result;
enum {
  OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_DEVICE = 101,
  INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600, ILLEGAL_ADDRESS = 700,
  NOT_SUPPORTED = 801, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901
};

#define TOTAL ((size_t)1 << 30)
#define MOST 4096

typedef struct { int kind; void *to; const void *from; size_t size; struct Event *event; } Work;
typedef struct Graph { int magic; Work work[64]; int count; } Graph;
typedef struct Event { int magic; unsigned flags; int recorded; struct timespec at; } Event;
typedef struct Stream { int magic; unsigned flags; int capturing, spoilt; Graph *graph; } Stream;
enum { STREAM = 0x57, EVENT = 0xE7, GRAPH = 0x69, READY = 0x6A };

static struct { void *at; size_t size; int pinned; } blocks[MOST];
static int initialized, broken, primary, others;
static size_t used[2];
static __thread void *stack[64];
static __thread int depth, captures;
static __thread Stream *captured;

static int number(const char *name, int usual) { const char *text = getenv(name); return text ? atoi(text) : usual; }
static int devices(void) { return number("DRIVER_DEVICES", 1); }

#define START do { if (!initialized) return NOT_INITIALIZED; if (broken) return broken; } while (0)
#define NEED_CONTEXT do { START; if (!depth || !stack[depth - 1]) return INVALID_CONTEXT; } while (0)
#define NOT_WHILE_CAPTURING do { if (captures) { captured->spoilt = 1; return CAPTURE_UNSUPPORTED; } } while (0)

static int inside(const void *at, size_t size, int pinned) {
  for (int i = 0; i < MOST; i++)
    if (blocks[i].at && blocks[i].pinned == pinned && (char *)at >= (char *)blocks[i].at &&
        (char *)at + size <= (char *)blocks[i].at + blocks[i].size) return 1;
  return 0;
}

static Result allocate(void **result, size_t size, int pinned) {
  NEED_CONTEXT;
  NOT_WHILE_CAPTURING;
  if (!size) return INVALID_VALUE;
  if (size > TOTAL - used[pinned]) return OUT_OF_MEMORY;
  for (int i = 0; i < MOST; i++)
    if (!blocks[i].at) {
      blocks[i].at = *result = malloc(size);
      blocks[i].size = size;
      blocks[i].pinned = pinned;
      used[pinned] += size;
      return OK;
    }
  return OUT_OF_MEMORY;
}

static Result release(void *at, int pinned) {
  NEED_CONTEXT;
  for (int i = 0; i < MOST; i++)
    if (at && blocks[i].at == at && blocks[i].pinned == pinned) {
      used[pinned] -= blocks[i].size;
      free(at);
      blocks[i].at = NULL;
      return OK;
    }
  return INVALID_VALUE;
}

static Result perform(Work work) {
  if (work.kind == 'e') {
    clock_gettime(CLOCK_MONOTONIC, &work.event->at);
    work.event->recorded = 1;
    return OK;
  }
  const void *device = work.kind == 'i' ? work.to : work.from;
  if (work.size && !inside(device, work.size, 0)) return broken = ILLEGAL_ADDRESS;
  memcpy(work.to, work.from, work.size);
  return OK;
}

static Result give(Stream *stream, Work work) {
  NEED_CONTEXT;
  if (!stream || stream->magic != STREAM) return INVALID_HANDLE;
  if (!stream->capturing) return perform(work);
  stream->graph->work[stream->graph->count++] = work;
  return OK;
}

Result cuInit(unsigned flags) { if (!devices()) return NO_DEVICE; initialized = 1; return OK; }
Result cuDriverGetVersion(int *version) { *version = number("DRIVER_VERSION", 12040); return OK; }

Result cuGetErrorString(Result error, const char **text) {
  switch (error) {
    case OK: *text = "no error"; break;
    case INVALID_VALUE: *text = "invalid argument"; break;
    case OUT_OF_MEMORY: *text = "out of memory"; break;
    case NOT_INITIALIZED: *text = "initialization error"; break;
    case NO_DEVICE: *text = "no CUDA-capable device is detected"; break;
    case INVALID_DEVICE: *text = "invalid device ordinal"; break;
    case INVALID_CONTEXT: *text = "invalid device context"; break;
    case INVALID_HANDLE: *text = "invalid resource handle"; break;
    case NOT_READY: *text = "device not ready"; break;
    case ILLEGAL_ADDRESS: *text = "an illegal memory access was encountered"; break;
    case NOT_SUPPORTED: *text = "operation not supported"; break;
    case CAPTURE_UNSUPPORTED: *text = "operation not permitted when stream is capturing"; break;
    case CAPTURE_INVALIDATED: *text = "operation failed due to a previous error during capture"; break;
    default: *text = "unknown error";
  }
  return OK;
}
Result cuGetErrorName(Result error, const char **text) { *text = "CUDA_ERROR"; return OK; }

Result cuDeviceGetCount(int *count) { *count = devices(); return OK; }
Result cuDeviceGet(int *device, int index) { START; *device = index; return index < devices() ? OK : INVALID_DEVICE; }
Result cuDeviceGetName(char *name, int room, int device) { START; snprintf(name, room, "A driver of the tests"); return OK; }
Result cuDeviceComputeCapability(int *major, int *minor, int device) { START; *major = 8; *minor = 6; return OK; }
Result cuDeviceTotalMem_v2(size_t *bytes, int device) { START; *bytes = TOTAL; return OK; }
Result cuDeviceGetUuid_v2(void *uuid, int device) { START; memset(uuid, 7, 16); return OK; }
Result cuDeviceGetLuid(char *luid, unsigned *mask, int device) { START; memset(luid, 0, 8); *mask = 1; return OK; }
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
  START;
  *value = attribute == 75 ? 8 : attribute == 76 ? 6 : 1;
  return OK;
}

Result cuDevicePrimaryCtxRetain(void **context, int device) { START; primary++; *context = &primary; return OK; }
Result cuDevicePrimaryCtxRelease_v2(int device) { START; primary--; return OK; }
Result cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) { START; *flags = 0; *active = primary > 0; return OK; }
Result cuCtxCreate_v2(void **context, unsigned flags, int device) {
  START;
  stack[depth++] = *context = &others;
  return OK;
}
Result cuCtxCreate_v4(void **context, void *parameters, unsigned flags, int device) { /* of CUDA 13 */
  return cuCtxCreate_v2(context, flags, device);
}
Result cuCtxDestroy_v2(void *context) { START; if (depth && stack[depth - 1] == context) depth--; return OK; }
Result cuCtxDetach(void *context) { return context == &primary ? INVALID_CONTEXT : cuCtxDestroy_v2(context); }
Result cuCtxPushCurrent_v2(void *context) { if (!initialized) return NOT_INITIALIZED; stack[depth++] = context; return OK; }
Result cuCtxPopCurrent_v2(void **context) {
  if (!depth) return INVALID_CONTEXT;
  depth--;
  if (context) *context = stack[depth];
  return OK;
}
Result cuCtxSetCurrent(void *context) { START; if (!depth) depth = 1; stack[depth - 1] = context; return OK; }
Result cuCtxGetCurrent(void **context) { START; *context = depth ? stack[depth - 1] : NULL; return OK; }
Result cuCtxGetDevice(int *device) { NEED_CONTEXT; *device = 0; return OK; }
Result cuCtxGetApiVersion(void *context, unsigned *version) { START; *version = 3020; return OK; }
Result cuCtxSynchronize(void) { NEED_CONTEXT; return OK; }
Result cuCtxGetStreamPriorityRange(int *least, int *most) { *least = *most = 0; return OK; }

Result cuMemGetInfo_v2(size_t *left, size_t *total) { NEED_CONTEXT; *left = TOTAL - used[0]; *total = TOTAL; return OK; }
Result cuMemAlloc_v2(void **result, size_t size) { return allocate(result, size, 0); }
Result cuMemFree_v2(void *at) { return release(at, 0); }
Result cuMemHostAlloc(void **result, size_t size, unsigned flags) { return allocate(result, size, 1); }
Result cuMemAllocHost_v2(void **result, size_t size) { return allocate(result, size, 1); }
Result cuMemFreeHost(void *at) { return release(at, 1); }
Result cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t size, Stream *stream) {
  return give(stream, (Work){'i', to, from, size, NULL});
}
Result cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t size, Stream *stream) {
  return give(stream, (Work){'o', to, from, size, NULL});
}

Result cuStreamCreate(Stream **stream, unsigned flags) {
  NEED_CONTEXT;
  *stream = calloc(1, sizeof(Stream));
  (*stream)->magic = STREAM;
  (*stream)->flags = flags;
  return OK;
}
Result cuStreamCreateWithPriority(Stream **stream, unsigned flags, int priority) { return cuStreamCreate(stream, flags); }
Result cuStreamDestroy_v2(Stream *stream) { NEED_CONTEXT; if (!stream || stream->magic != STREAM) return INVALID_HANDLE; stream->magic = 0; return OK; }
Result cuStreamSynchronize(Stream *stream) {
  NEED_CONTEXT;
  if (!stream || stream->magic != STREAM) return INVALID_HANDLE;
  if (stream->capturing) { stream->spoilt = 1; return CAPTURE_UNSUPPORTED; }
  return OK;
}
Result cuStreamQuery(Stream *stream) { return cuStreamSynchronize(stream); }
Result cuStreamWaitEvent(Stream *stream, Event *event, unsigned flags) {
  NEED_CONTEXT;
  return stream && stream->magic == STREAM && event && event->magic == EVENT ? OK : INVALID_HANDLE;
}

Result cuEventCreate(Event **event, unsigned flags) {
  NEED_CONTEXT;
  *event = calloc(1, sizeof(Event));
  (*event)->magic = EVENT;
  (*event)->flags = flags;
  return OK;
}
Result cuEventDestroy_v2(Event *event) { NEED_CONTEXT; if (!event || event->magic != EVENT) return INVALID_HANDLE; event->magic = 0; return OK; }
Result cuEventRecord(Event *event, Stream *stream) {
  if (!event || event->magic != EVENT) return INVALID_HANDLE;
  return give(stream, (Work){'e', NULL, NULL, 0, event});
}
Result cuEventSynchronize(Event *event) { NEED_CONTEXT; return event && event->magic == EVENT ? OK : INVALID_HANDLE; }
Result cuEventQuery(Event *event) { return cuEventSynchronize(event); }
Result cuEventElapsedTime(float *milliseconds, Event *start, Event *end) {
  NEED_CONTEXT;
  if (start->magic != EVENT || end->magic != EVENT || start->flags & 2 || end->flags & 2) return INVALID_HANDLE;
  if (!start->recorded || !end->recorded) return INVALID_HANDLE;
  *milliseconds = (end->at.tv_sec - start->at.tv_sec) * 1e3 + (end->at.tv_nsec - start->at.tv_nsec) / 1e6;
  return OK;
}
Result cuEventElapsedTime_v2(float *milliseconds, Event *start, Event *end) { return cuEventElapsedTime(milliseconds, start, end); }

Result cuStreamBeginCapture_v2(Stream *stream, int mode) {
  NEED_CONTEXT;
  if (!stream || stream->magic != STREAM || mode != 1) return INVALID_VALUE; /* thread-local is what is wanted */
  stream->graph = calloc(1, sizeof(Graph));
  stream->graph->magic = GRAPH;
  stream->capturing = 1;
  stream->spoilt = 0;
  captures++;
  captured = stream;
  return OK;
}
Result cuStreamEndCapture(Stream *stream, Graph **graph) {
  NEED_CONTEXT;
  if (!stream || stream->magic != STREAM || !stream->capturing) return INVALID_VALUE;
  stream->capturing = 0;
  captures--;
  *graph = stream->spoilt ? NULL : stream->graph;
  return stream->spoilt ? CAPTURE_INVALIDATED : OK;
}
Result cuGraphInstantiateWithFlags(Graph **ready, Graph *graph, unsigned long long flags) {
  NEED_CONTEXT;
  if (!graph || graph->magic != GRAPH) return INVALID_VALUE;
  *ready = malloc(sizeof(Graph));
  **ready = *graph;
  (*ready)->magic = READY;
  return OK;
}
Result cuGraphLaunch(Graph *ready, Stream *stream) {
  NEED_CONTEXT;
  if (!ready || ready->magic != READY) return INVALID_VALUE;
  for (int i = 0; i < ready->count; i++) {
    Result result = give(stream, ready->work[i]);
    if (result) return result;
  }
  return OK;
}
Result cuGraphDestroy(Graph *graph) { if (!graph || graph->magic != GRAPH) return INVALID_VALUE; graph->magic = 0; return OK; }
Result cuGraphExecDestroy(Graph *ready) { if (!ready || ready->magic != READY) return INVALID_VALUE; ready->magic = 0; return OK; }

/* cuda.bindings asks for functions by name. */
Result cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status) {
  static const char *endings[] = {"_v2", ""};
  char whole[256];
  *function = NULL;
  for (int i = 0; i < 2 && !*function; i++) {
    snprintf(whole, sizeof whole, "%s%s", name, endings[i]);
    *function = dlsym(RTLD_DEFAULT, whole);
    if (!*function) {
      static void *self;
      if (!self) self = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
      if (self) *function = dlsym(self, whole);
    }
  }
  if (status) *status = *function ? 0 : 1;
  return *function ? OK : NOT_FOUND;
}
Result cuGetProcAddress(const char *name, void **function, int version, uint64_t flags) {
  return cuGetProcAddress_v2(name, function, version, flags, NULL);
}

/* What PyCUDA is linked to and no test calls. */
#define ABSENT(name) Result name(void) { return NOT_SUPPORTED; }
ABSENT(cuArray3DCreate_v2) ABSENT(cuArray3DGetDescriptor_v2) ABSENT(cuArrayCreate_v2) ABSENT(cuArrayDestroy)
ABSENT(cuArrayGetDescriptor_v2) ABSENT(cuCtxAttach) ABSENT(cuCtxDisablePeerAccess) ABSENT(cuCtxEnablePeerAccess)
ABSENT(cuCtxGetCacheConfig) ABSENT(cuCtxGetLimit) ABSENT(cuCtxGetSharedMemConfig)
ABSENT(cuCtxSetCacheConfig) ABSENT(cuCtxSetLimit) ABSENT(cuCtxSetSharedMemConfig) ABSENT(cuDeviceCanAccessPeer)
ABSENT(cuDeviceGetByPCIBusId) ABSENT(cuDeviceGetPCIBusId) ABSENT(cuFuncGetAttribute) ABSENT(cuFuncSetAttribute)
ABSENT(cuFuncSetBlockShape) ABSENT(cuFuncSetCacheConfig) ABSENT(cuFuncSetSharedSize) ABSENT(cuIpcCloseMemHandle)
ABSENT(cuIpcGetEventHandle) ABSENT(cuIpcGetMemHandle) ABSENT(cuIpcOpenEventHandle) ABSENT(cuIpcOpenMemHandle_v2)
ABSENT(cuLaunch) ABSENT(cuLaunchGrid) ABSENT(cuLaunchGridAsync) ABSENT(cuLaunchKernel)
ABSENT(cuLinkAddData_v2) ABSENT(cuLinkAddFile_v2) ABSENT(cuLinkComplete) ABSENT(cuLinkCreate_v2)
ABSENT(cuLinkDestroy) ABSENT(cuMemAllocManaged) ABSENT(cuMemAllocPitch_v2) ABSENT(cuMemGetAddressRange_v2)
ABSENT(cuMemHostGetDevicePointer_v2) ABSENT(cuMemHostGetFlags) ABSENT(cuMemHostRegister_v2) ABSENT(cuMemHostUnregister)
ABSENT(cuMemcpy2DAsync_v2) ABSENT(cuMemcpy2DUnaligned_v2) ABSENT(cuMemcpy2D_v2) ABSENT(cuMemcpy3DAsync_v2)
ABSENT(cuMemcpy3DPeer) ABSENT(cuMemcpy3DPeerAsync) ABSENT(cuMemcpy3D_v2) ABSENT(cuMemcpyAtoA_v2)
ABSENT(cuMemcpyAtoD_v2) ABSENT(cuMemcpyAtoH_v2) ABSENT(cuMemcpyDtoA_v2) ABSENT(cuMemcpyDtoDAsync_v2)
ABSENT(cuMemcpyDtoD_v2) ABSENT(cuMemcpyDtoH_v2) ABSENT(cuMemcpyHtoA_v2) ABSENT(cuMemcpyHtoD_v2)
ABSENT(cuMemcpyPeer) ABSENT(cuMemcpyPeerAsync) ABSENT(cuMemsetD16Async) ABSENT(cuMemsetD16_v2)
ABSENT(cuMemsetD2D16Async) ABSENT(cuMemsetD2D16_v2) ABSENT(cuMemsetD2D32Async) ABSENT(cuMemsetD2D32_v2)
ABSENT(cuMemsetD2D8Async) ABSENT(cuMemsetD2D8_v2) ABSENT(cuMemsetD32Async) ABSENT(cuMemsetD32_v2)
ABSENT(cuMemsetD8Async) ABSENT(cuMemsetD8_v2) ABSENT(cuModuleGetFunction) ABSENT(cuModuleGetGlobal_v2)
ABSENT(cuModuleGetSurfRef) ABSENT(cuModuleGetTexRef) ABSENT(cuModuleLoad) ABSENT(cuModuleLoadData)
ABSENT(cuModuleLoadDataEx) ABSENT(cuModuleUnload) ABSENT(cuParamSetSize) ABSENT(cuParamSetTexRef)
ABSENT(cuParamSetf) ABSENT(cuParamSeti) ABSENT(cuParamSetv) ABSENT(cuProfilerInitialize)
ABSENT(cuProfilerStart) ABSENT(cuProfilerStop) ABSENT(cuStreamAttachMemAsync) ABSENT(cuSurfRefGetArray)
ABSENT(cuSurfRefSetArray) ABSENT(cuTexRefCreate) ABSENT(cuTexRefDestroy) ABSENT(cuTexRefGetAddressMode)
ABSENT(cuTexRefGetAddress_v2) ABSENT(cuTexRefGetArray) ABSENT(cuTexRefGetFilterMode) ABSENT(cuTexRefGetFlags)
ABSENT(cuTexRefGetFormat) ABSENT(cuTexRefSetAddress2D_v3) ABSENT(cuTexRefSetAddressMode) ABSENT(cuTexRefSetAddress_v2)
ABSENT(cuTexRefSetArray) ABSENT(cuTexRefSetFilterMode) ABSENT(cuTexRefSetFlags) ABSENT(cuTexRefSetFormat)
