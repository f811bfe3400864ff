/* A stand-in for libcuda.so.1 whose device is the host: memory is malloc, streams run at once, graphs are replayed.
 *
 * It exists so that the real ctypes and pycuda code runs where there is no GPU. Compiled by the tests; with CUDA's own
 * header on the include path the compiler checks every function below against it.
 *
 *   STUB_CUDA_INTEGRATED=1        a GPU that shares the host's memory: device pointers of mapped memory are host addresses
 *   STUB_CUDA_DEVICES=0           a driver without a GPU
 *   STUB_CUDA_FAIL=cuGraphLaunch:719[:2]   that function returns 719 from its second call on
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__has_include) && __has_include(<cuda.h>)
#include <cuda.h>
#undef cuEventElapsedTime
#else
typedef int CUresult, CUdevice, CUdevice_attribute, CUstreamCaptureMode;
typedef unsigned long long CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphExec_st *CUgraphExec;
#endif

enum { OK = 0, INVALID = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_CONTEXT = 201, CAPTURE_INVALID = 901 };
enum { INTEGRATED = 18, CAN_MAP_HOST_MEMORY = 19, MAJOR = 75, MINOR = 76 };

struct CUctx_st { int retained; };
struct CUevent_st { unsigned flags; uint64_t ticks; int recorded; };
struct work { void *to; const void *from; size_t size_bytes; float added; };
struct CUgraph_st { struct work *work; int count; };
struct CUgraphExec_st { struct work *work; int count; };
struct CUstream_st { unsigned flags; int priority; struct CUgraph_st *capturing; };

static struct CUctx_st primary;
static _Thread_local CUcontext stack[16];
static _Thread_local int depth;
static uint64_t ticks;

/* Live objects and calls, read by the tests. */
static struct { const char *name; int live; } kinds[] = {{"context", 0}, {"host", 0}, {"device", 0}, {"stream", 0},
                                                         {"event", 0},   {"graph", 0}, {"launchable", 0}};
enum { CONTEXT, HOST, DEVICE, STREAM, EVENT, GRAPH, LAUNCHABLE, KINDS };
static struct { const char *name; int count; } calls[128];

int stub_live(const char *kind)
{
    int total = 0;
    for (int k = 0; k < KINDS; k++)
        if (!kind || !strcmp(kind, kinds[k].name)) total += kinds[k].live;
    return total;
}

int stub_calls(const char *function)
{
    for (int i = 0; i < 128 && calls[i].name; i++)
        if (!strcmp(calls[i].name, function)) return calls[i].count;
    return 0;
}

int stub_depth(void) { return depth; }
int stub_priority(CUstream stream) { return stream->priority; }
unsigned stub_event_flags(CUevent event) { return event->flags; }

void stub_reset_calls(void) { memset(calls, 0, sizeof calls); }

static CUresult entered(const char *function)
{
    int i = 0;
    while (i < 127 && calls[i].name && strcmp(calls[i].name, function)) i++;
    calls[i].name = function;
    calls[i].count++;
    const char *fail = getenv("STUB_CUDA_FAIL");
    size_t length = strlen(function);
    if (!fail || strncmp(fail, function, length) || fail[length] != ':') return OK;
    int status = 0, from = 1;
    sscanf(fail + length, ":%d:%d", &status, &from);
    return calls[i].count >= from ? status : OK;
}

#define ENTER CUresult entry = entered(__func__); if (entry != OK) return entry
#define NEED_CONTEXT ENTER; if (depth == 0) return INVALID_CONTEXT

static CUresult perform(CUstream stream, struct work work)
{
    struct CUgraph_st *graph = stream->capturing;
    if (graph) {
        graph->work = realloc(graph->work, (graph->count + 1) * sizeof work);
        graph->work[graph->count++] = work;
        return OK;
    }
    ticks++;
    if (work.from && work.added == 0) memcpy(work.to, work.from, work.size_bytes);
    else
        for (size_t i = 0; i < work.size_bytes / sizeof(float); i++)
            ((float *)work.to)[i] = ((const float *)work.from)[i] + work.added;
    return OK;
}

/* What an engine would enqueue: to[i] = from[i] + added, float32, on device memory. */
CUresult stub_enqueue_add(CUdeviceptr to, CUdeviceptr from, size_t count, float added, CUstream stream)
{
    ENTER;
    struct work work = {(void *)(uintptr_t)to, (const void *)(uintptr_t)from, count * sizeof(float), added};
    return perform(stream, work);
}

CUresult cuInit(unsigned flags) { ENTER; (void)flags; return getenv("STUB_CUDA_DEVICES") ? NO_DEVICE : OK; }
CUresult cuDriverGetVersion(int *version) { ENTER; *version = 12060; return OK; }
CUresult cuDeviceGetCount(int *count) { ENTER; *count = 1; return OK; }
CUresult cuDeviceGet(CUdevice *device, int ordinal) { ENTER; *device = ordinal; return ordinal ? INVALID : OK; }

CUresult cuDeviceGetName(char *name, int length, CUdevice device)
{
    ENTER;
    (void)device;
    snprintf(name, (size_t)length, "Stand-in");
    return OK;
}

CUresult cuDeviceTotalMem_v2(size_t *size_bytes, CUdevice device)
{
    ENTER;
    (void)device;
    *size_bytes = (size_t)8 << 30;
    return OK;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
    ENTER;
    (void)device;
    switch ((int)attribute) {
    case INTEGRATED: *value = getenv("STUB_CUDA_INTEGRATED") != NULL; return OK;
    case CAN_MAP_HOST_MEMORY: *value = 1; return OK;
    case MAJOR: *value = 8; return OK;
    case MINOR: *value = 7; return OK;
    default: return INVALID;
    }
}

static const char *error_name(CUresult status)
{
    switch ((int)status) {
    case OK: return "CUDA_SUCCESS";
    case INVALID: return "CUDA_ERROR_INVALID_VALUE";
    case OUT_OF_MEMORY: return "CUDA_ERROR_OUT_OF_MEMORY";
    case NO_DEVICE: return "CUDA_ERROR_NO_DEVICE";
    case INVALID_CONTEXT: return "CUDA_ERROR_INVALID_CONTEXT";
    case 719: return "CUDA_ERROR_LAUNCH_FAILED";
    case 900: return "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED";
    case CAPTURE_INVALID: return "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED";
    default: return NULL;
    }
}

CUresult cuGetErrorName(CUresult status, const char **name) { *name = error_name(status); return *name ? OK : INVALID; }
CUresult cuGetErrorString(CUresult status, const char **text) { return cuGetErrorName(status, text); }

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
    ENTER;
    (void)device;
    kinds[CONTEXT].live++;
    primary.retained++;
    *context = &primary;
    return OK;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
    ENTER;
    (void)device;
    kinds[CONTEXT].live--;
    return primary.retained-- > 0 ? OK : INVALID_CONTEXT;
}

CUresult cuCtxPushCurrent_v2(CUcontext context) { ENTER; stack[depth++] = context; return OK; }
CUresult cuCtxPopCurrent_v2(CUcontext *context) { NEED_CONTEXT; *context = stack[--depth]; return OK; }

CUresult cuCtxGetCurrent(CUcontext *context) { ENTER; *context = depth ? stack[depth - 1] : NULL; return OK; }
CUresult cuCtxGetDevice(CUdevice *device) { NEED_CONTEXT; *device = 0; return OK; }

CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest)
{
    NEED_CONTEXT;
    *least = 0;
    *greatest = -5;
    return OK;
}

CUresult cuMemHostAlloc(void **address, size_t size_bytes, unsigned flags)
{
    NEED_CONTEXT;
    if (flags != 2) return INVALID; /* CU_MEMHOSTALLOC_DEVICEMAP is what we ask for */
    *address = malloc(size_bytes);
    memset(*address, 0xA5, size_bytes);
    kinds[HOST].live++;
    return OK;
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *pointer, void *address, unsigned flags)
{
    NEED_CONTEXT;
    (void)flags;
    *pointer = (CUdeviceptr)(uintptr_t)address;
    return OK;
}

CUresult cuMemFreeHost(void *address) { NEED_CONTEXT; free(address); kinds[HOST].live--; return OK; }

CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t size_bytes)
{
    NEED_CONTEXT;
    *pointer = (CUdeviceptr)(uintptr_t)calloc(1, size_bytes);
    kinds[DEVICE].live++;
    return OK;
}

CUresult cuMemFree_v2(CUdeviceptr pointer) { NEED_CONTEXT; free((void *)(uintptr_t)pointer); kinds[DEVICE].live--; return OK; }

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t size_bytes, CUstream stream)
{
    NEED_CONTEXT;
    struct work work = {(void *)(uintptr_t)to, from, size_bytes, 0};
    return perform(stream, work);
}

CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t size_bytes, CUstream stream)
{
    NEED_CONTEXT;
    struct work work = {to, (const void *)(uintptr_t)from, size_bytes, 0};
    return perform(stream, work);
}

CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int priority)
{
    NEED_CONTEXT;
    *stream = calloc(1, sizeof **stream);
    (*stream)->flags = flags;
    (*stream)->priority = priority;
    kinds[STREAM].live++;
    return flags == 1 ? OK : INVALID;
}

CUresult cuStreamSynchronize(CUstream stream) { NEED_CONTEXT; return stream->capturing ? CAPTURE_INVALID : OK; }
CUresult cuStreamDestroy_v2(CUstream stream) { NEED_CONTEXT; free(stream); kinds[STREAM].live--; return OK; }

CUresult cuEventCreate(CUevent *event, unsigned flags)
{
    NEED_CONTEXT;
    *event = calloc(1, sizeof **event);
    (*event)->flags = flags;
    kinds[EVENT].live++;
    return OK;
}

CUresult cuEventRecord(CUevent event, CUstream stream)
{
    NEED_CONTEXT;
    if (stream->capturing) return CAPTURE_INVALID;
    event->recorded = 1;
    event->ticks = ticks;
    return OK;
}

CUresult cuEventSynchronize(CUevent event) { NEED_CONTEXT; return event->recorded ? OK : INVALID; }

CUresult cuEventElapsedTime(float *milliseconds, CUevent start, CUevent end)
{
    NEED_CONTEXT;
    if ((start->flags | end->flags) & 2) return INVALID; /* made without timing */
    *milliseconds = (float)(end->ticks - start->ticks);
    return OK;
}

CUresult cuEventDestroy_v2(CUevent event) { NEED_CONTEXT; free(event); kinds[EVENT].live--; return OK; }

CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode)
{
    NEED_CONTEXT;
    if ((int)mode != 1 || stream->capturing) return INVALID;
    stream->capturing = calloc(1, sizeof *stream->capturing);
    kinds[GRAPH].live++;
    return OK;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph)
{
    CUresult entry = depth ? entered(__func__) : INVALID_CONTEXT;
    struct CUgraph_st *captured = stream->capturing;
    stream->capturing = NULL; /* as the driver does, the capture ends even when it fails */
    *graph = captured;
    if (entry == OK) return captured ? OK : INVALID;
    if (captured) {
        free(captured->work);
        free(captured);
        kinds[GRAPH].live--;
    }
    *graph = NULL;
    return entry;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *launchable, CUgraph graph, unsigned long long flags)
{
    NEED_CONTEXT;
    (void)flags;
    *launchable = calloc(1, sizeof **launchable);
    (*launchable)->count = graph->count;
    (*launchable)->work = malloc(graph->count * sizeof(struct work));
    memcpy((*launchable)->work, graph->work, graph->count * sizeof(struct work));
    kinds[LAUNCHABLE].live++;
    return OK;
}

CUresult cuGraphLaunch(CUgraphExec launchable, CUstream stream)
{
    NEED_CONTEXT;
    for (int i = 0; i < launchable->count; i++) perform(stream, launchable->work[i]);
    return OK;
}

CUresult cuGraphDestroy(CUgraph graph)
{
    NEED_CONTEXT;
    free(graph->work);
    free(graph);
    kinds[GRAPH].live--;
    return OK;
}

CUresult cuGraphExecDestroy(CUgraphExec launchable)
{
    NEED_CONTEXT;
    free(launchable->work);
    free(launchable);
    kinds[LAUNCHABLE].live--;
    return OK;
}
