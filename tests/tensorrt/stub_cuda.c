/* libcuda.so.1 of an Orin, with only the functions that profiles/gpu.py calls. STUB_CUDA=no-device: cuInit fails as without a GPU;
 * STUB_CUDA=hidden: there are no devices, as with an empty CUDA_VISIBLE_DEVICES. */
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, NO_DEVICE = 100 };

static int is(const char *value) { const char *set = getenv("STUB_CUDA"); return set && strcmp(set, value) == 0; }

int cuInit(unsigned flags) { return is("no-device") ? NO_DEVICE : SUCCESS; }
int cuDriverGetVersion(int *version) { *version = 12060; return SUCCESS; }
int cuDeviceGetCount(int *count) { *count = is("hidden") ? 0 : 1; return SUCCESS; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal == 0 ? SUCCESS : INVALID_VALUE; }

int cuDeviceGetName(char *name, int size, int device) {
    strncpy(name, "Orin", size);
    return SUCCESS;
}

int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)7620 << 20; return SUCCESS; }

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
    case 18: *value = 1; return SUCCESS; /* integrated */
    case 75: *value = 8; return SUCCESS; /* compute capability, major */
    case 76: *value = 7; return SUCCESS;
    default: return INVALID_VALUE;
    }
}

int cuGetErrorString(int error, const char **text) {
    *text = error == NO_DEVICE ? "no CUDA-capable device is detected" : "invalid argument";
    return SUCCESS;
}
