// A null GPU: the CUDA runtime and driver, cuBLAS and cuDNN that accept every call and compute
// nothing.
//
// Preloaded (LD_PRELOAD), it lets torch take its CUDA paths on a machine without a GPU: dispatcher,
// autocast, autograd, caching allocator, kernel launches. It counts kernel launches and the calls
// that make the host wait for the device; null_gpu.py reads both. It knows the calls that torch
// 2.11 makes. Another torch may make others, which would reach the real libraries and fail.
//
// Device memory is reserved address space. Copies to the host read zeros, except single bytes:
// these are mostly booleans such as `if mask.any()`, and read 1.
//
// Functions without a parameter list ignore what callers pass. This relies on the calling
// convention of x86-64, where the caller removes the arguments.

#include <dlfcn.h>
#include <sys/mman.h>
#include <time.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "driver_types.h"

#define API extern "C" __attribute__((visibility("default")))
#define SUCCEEDS(name) \
  API int name() { return 0; }
#define LAUNCHES(name) \
  API int name() { return count_launch(); }
#define CREATES(name) \
  API int name(void** handle) { return create(handle); }

typedef void* Stream;
struct Dim3 {
  unsigned x, y, z;
};

// CUDA's status codes
enum Status {
  kSuccess = 0,
  kOutOfMemory = 2,
  kInvalidConfiguration = 9,
  kInvalidDevice = 101,
  kCaptureUnsupported = 900,
  kCaptureInvalidated = 901,
};

constexpr size_t kTotalMemory = 143771ull << 20;  // of an H200
constexpr size_t kPage = 2ull << 20;
// A copy of more bytes from pageable memory may wait for the device even if it is asynchronous
// (CUDA programming guide, "Asynchronous Concurrent Execution"; runtime API, "API
// synchronization").
constexpr size_t kStagedBytes = 64 << 10;

// ---- State. Objects are never destroyed: torch calls the library while the process exits.
static std::recursive_mutex mutex;
#define LOCK std::lock_guard<std::recursive_mutex> lock(mutex)

typedef std::map<uintptr_t, size_t> Regions;  // first byte -> size
static Regions& device_memory = *new Regions;
static Regions& pinned_memory = *new Regions;
static size_t allocated = 0;

static long launches = 0, waits = 0, captured_launches = 0;
static bool idle = true;  // the host has waited for all that was submitted
static bool capturing = false, capture_broken = false;
static void (*on_wait)() = nullptr;

static bool inside(const Regions& regions, const void* address) {
  LOCK;
  auto next = regions.upper_bound((uintptr_t)address);
  if (next == regions.begin()) return false;
  auto region = std::prev(next);
  return (uintptr_t)address < region->first + region->second;
}

static int count_launch() {
  LOCK;
  idle = false;
  capturing ? captured_launches++ : launches++;
  return kSuccess;
}

// A wait right after another one, with nothing submitted between them, costs nothing.
static int count_wait() {
  void (*report)() = nullptr;
  {
    LOCK;
    if (capturing) {
      capture_broken = true;
      return kCaptureUnsupported;
    }
    if (!idle) {
      waits++;
      report = on_wait;
    }
    idle = true;
  }
  if (report) report();  // takes Python's lock: not while this one is held
  return kSuccess;
}

static int create(void** handle) {
  *handle = calloc(1, 64);
  return kSuccess;
}

// ---- Read by null_gpu.py
API long null_gpu_launches() { return launches; }
API long null_gpu_waits() { return waits; }
API void null_gpu_on_wait(void (*function)()) { on_wait = function; }

// ---- Runtime: modules and launches
API void** __cudaRegisterFatBinary(void* binary) { return (void**)new void*(binary); }
API void __cudaRegisterFatBinaryEnd() {}
API void __cudaUnregisterFatBinary() {}
API char __cudaInitModule() { return 0; }
API void __cudaRegisterFunction() {}
API void __cudaRegisterVar() {}

struct LaunchConfiguration {
  Dim3 grid, block;
  size_t shared_bytes;
  void* stream;
};
static thread_local std::vector<LaunchConfiguration> configurations;
API unsigned __cudaPushCallConfiguration(Dim3 grid, Dim3 block, size_t shared_bytes,
                                         Stream stream) {
  configurations.push_back({grid, block, shared_bytes, stream});
  return kSuccess;
}
API int __cudaPopCallConfiguration(Dim3* grid, Dim3* block, size_t* shared_bytes, void* stream) {
  if (configurations.empty()) return kInvalidConfiguration;
  auto last = configurations.back();
  configurations.pop_back();
  *grid = last.grid;
  *block = last.block;
  *shared_bytes = last.shared_bytes;
  *(void**)stream = last.stream;
  return kSuccess;
}
API int __cudaGetKernel(void** kernel, const void* function) {
  *kernel = (void*)function;
  return kSuccess;
}

static int launch(Dim3 grid, Dim3 block) {
  unsigned long threads = (unsigned long)block.x * block.y * block.z;
  bool empty_grid = !grid.x || !grid.y || !grid.z;
  if (!threads || threads > 1024 || empty_grid) return kInvalidConfiguration;
  return count_launch();
}
API int __cudaLaunchKernel(void*, Dim3 grid, Dim3 block) { return launch(grid, block); }
API int cudaLaunchKernel(const void*, Dim3 grid, Dim3 block) { return launch(grid, block); }
API int cudaLaunchCooperativeKernel(const void*, Dim3 grid, Dim3 block) {
  return launch(grid, block);
}
LAUNCHES(cudaLaunchKernelExC)
API int cudaLaunchHostFunc(Stream, void (*function)(void*), void* data) {
  function(data);
  return kSuccess;
}

// ---- Runtime: one device, an H200
static const char* kName = "NVIDIA H200 (null)";
static thread_local int current_device = 0;
API int cudaGetDeviceCount(int* count) {
  *count = 1;
  return kSuccess;
}
API int cudaGetDevice(int* device) {
  *device = current_device;
  return kSuccess;
}
API int cudaSetDevice(int device) {
  if (device != 0) return kInvalidDevice;
  current_device = device;
  return kSuccess;
}
API int cudaGetDeviceProperties(cudaDeviceProp* p, int) {
  memset(p, 0, sizeof *p);
  strcpy(p->name, kName);
  p->major = 9;
  p->minor = 0;
  p->multiProcessorCount = 132;
  p->warpSize = 32;
  p->totalGlobalMem = kTotalMemory;
  p->totalConstMem = 65536;
  p->l2CacheSize = 60 << 20;
  p->memoryBusWidth = 6144;
  p->memPitch = 2147483647;
  p->maxThreadsPerBlock = 1024;
  p->maxThreadsPerMultiProcessor = 2048;
  p->maxBlocksPerMultiProcessor = 32;
  p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
  p->maxThreadsDim[2] = 64;
  p->maxGridSize[0] = 2147483647;
  p->maxGridSize[1] = p->maxGridSize[2] = 65535;
  p->sharedMemPerBlock = 49152;
  p->sharedMemPerBlockOptin = 232448;
  p->sharedMemPerMultiprocessor = 233472;
  p->reservedSharedMemPerBlock = 1024;
  p->regsPerBlock = p->regsPerMultiprocessor = 65536;
  p->textureAlignment = p->surfaceAlignment = 512;
  p->texturePitchAlignment = 32;
  p->asyncEngineCount = 3;
  p->canMapHostMemory = p->concurrentKernels = p->ECCEnabled = p->unifiedAddressing = 1;
  p->streamPrioritiesSupported = p->managedMemory = p->memoryPoolsSupported = 1;
  p->globalL1CacheSupported = p->localL1CacheSupported = p->hostRegisterSupported = 1;
  p->cooperativeLaunch = p->clusterLaunch = 1;
  return kSuccess;
}
API int cudaDeviceGetAttribute(int* value, int attribute, int) {
  static const std::map<int, int>& attributes = *new std::map<int, int>{
      {cudaDevAttrMaxThreadsPerBlock, 1024},
      {cudaDevAttrMaxBlockDimX, 1024},
      {cudaDevAttrMaxBlockDimY, 1024},
      {cudaDevAttrMaxBlockDimZ, 64},
      {cudaDevAttrMaxGridDimX, 2147483647},
      {cudaDevAttrMaxGridDimY, 65535},
      {cudaDevAttrMaxGridDimZ, 65535},
      {cudaDevAttrMaxSharedMemoryPerBlock, 49152},
      {cudaDevAttrTotalConstantMemory, 65536},
      {cudaDevAttrWarpSize, 32},
      {cudaDevAttrMaxRegistersPerBlock, 65536},
      {cudaDevAttrClockRate, 1980000},
      {cudaDevAttrTextureAlignment, 512},
      {cudaDevAttrMultiProcessorCount, 132},
      {cudaDevAttrMemoryClockRate, 3201000},
      {cudaDevAttrGlobalMemoryBusWidth, 6144},
      {cudaDevAttrL2CacheSize, 60 << 20},
      {cudaDevAttrMaxThreadsPerMultiProcessor, 2048},
      {cudaDevAttrUnifiedAddressing, 1},
      {cudaDevAttrComputeCapabilityMajor, 9},
      {cudaDevAttrMaxSharedMemoryPerMultiprocessor, 233472},
      {cudaDevAttrMaxRegistersPerMultiprocessor, 65536},
      {cudaDevAttrManagedMemory, 1},
      {cudaDevAttrCooperativeLaunch, 1},
      {cudaDevAttrMaxSharedMemoryPerBlockOptin, 232448},
      {cudaDevAttrMaxBlocksPerMultiprocessor, 32},
      {cudaDevAttrMemoryPoolsSupported, 1},
      {cudaDevAttrClusterLaunch, 1},
  };
  auto found = attributes.find(attribute);
  *value = found == attributes.end() ? 0 : found->second;
  return kSuccess;
}
API int cudaDeviceCanAccessPeer(int* can, int, int) {
  *can = 0;
  return kSuccess;
}
API int cudaDeviceGetDefaultMemPool(void** pool, int) { return create(pool); }
API int cudaDeviceGetPCIBusId(char* id, int size, int) {
  snprintf(id, size, "0000:00:00.0");
  return kSuccess;
}
API int cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return kSuccess;
}
API int cudaDeviceSynchronize() { return count_wait(); }
API int cudaDriverGetVersion(int* version) {
  *version = 13000;
  return kSuccess;
}
API int cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }
API const char* cudaGetErrorName(int status) { return status ? "cudaErrorNull" : "cudaSuccess"; }
API const char* cudaGetErrorString(int status) {
  switch (status) {
    case kSuccess: return "no error";
    case kOutOfMemory: return "out of memory";
    case kInvalidConfiguration: return "invalid configuration argument";
    case kInvalidDevice: return "invalid device ordinal";
    case kCaptureUnsupported: return "operation not permitted when stream is capturing";
    default: return "error of the null GPU";
  }
}
SUCCEEDS(cudaGetLastError)
SUCCEEDS(cudaPeekAtLastError)

// ---- Runtime: memory
API int cudaMemGetInfo(size_t* free_bytes, size_t* total) {
  LOCK;
  *total = kTotalMemory;
  *free_bytes = kTotalMemory - allocated;
  return kSuccess;
}
API int cudaMalloc(void** pointer, size_t size) {
  LOCK;
  size = (size + kPage - 1) / kPage * kPage;
  if (allocated + size > kTotalMemory) return kOutOfMemory;
  // One page more than needed, so that the region can be aligned as CUDA aligns it
  void* mapped = mmap(nullptr, size + kPage, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return kOutOfMemory;
  uintptr_t address = ((uintptr_t)mapped + kPage - 1) / kPage * kPage;
  device_memory[address] = size;
  allocated += size;
  *pointer = (void*)address;
  return kSuccess;
}
API int cudaFree(void* pointer) {
  LOCK;
  auto region = device_memory.find((uintptr_t)pointer);
  if (region == device_memory.end()) return kSuccess;
  munmap((void*)region->first, region->second);
  allocated -= region->second;
  device_memory.erase(region);
  return kSuccess;
}
API int cudaMallocAsync(void** pointer, size_t size, Stream) { return cudaMalloc(pointer, size); }
API int cudaFreeAsync(void* pointer, Stream) { return cudaFree(pointer); }
API int cudaHostAlloc(void** pointer, size_t size, unsigned) {
  if (posix_memalign(pointer, 4096, size ? size : 1)) return kOutOfMemory;
  LOCK;
  pinned_memory[(uintptr_t)*pointer] = size;
  return kSuccess;
}
API int cudaFreeHost(void* pointer) {
  LOCK;
  pinned_memory.erase((uintptr_t)pointer);
  free(pointer);
  return kSuccess;
}
API int cudaHostRegister(void* pointer, size_t size, unsigned) {
  LOCK;
  pinned_memory[(uintptr_t)pointer] = size;
  return kSuccess;
}
API int cudaHostUnregister(void* pointer) {
  LOCK;
  pinned_memory.erase((uintptr_t)pointer);
  return kSuccess;
}

static bool submit_copy(void* to, const void* from, size_t size) {  // -> must the host wait?
  LOCK;
  idle = false;
  bool from_device = inside(device_memory, from), to_device = inside(device_memory, to);
  if (from_device && to_device) return false;
  if (from_device) {
    memset(to, size == 1 ? 1 : 0, size);
    return !inside(pinned_memory, to);
  }
  // Large inputs are not copied, to save time: nothing reads them.
  if (!to_device || size <= 1 << 20) memcpy(to, from, size);
  return to_device && size > kStagedBytes && !inside(pinned_memory, from);
}
API int cudaMemcpyAsync(void* to, const void* from, size_t size) {
  return submit_copy(to, from, size) ? count_wait() : kSuccess;
}
API int cudaMemcpy(void* to, const void* from, size_t size) {
  submit_copy(to, from, size);
  return count_wait();
}
API int cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t size) {
  return cudaMemcpyAsync(to, from, size);
}
SUCCEEDS(cudaMemcpy2DAsync)
LAUNCHES(cudaMemset)
LAUNCHES(cudaMemsetAsync)
SUCCEEDS(cudaMemcpyToSymbol)
API int cudaGetSymbolAddress(void** pointer, const void*) {
  static void* memory = calloc(1, 1 << 20);
  *pointer = memory;
  return kSuccess;
}
API int cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  memset(attributes, 0, sizeof *attributes);
  attributes->type = inside(device_memory, pointer)   ? cudaMemoryTypeDevice
                     : inside(pinned_memory, pointer) ? cudaMemoryTypeHost
                                                      : cudaMemoryTypeUnregistered;
  if (attributes->type != cudaMemoryTypeUnregistered) attributes->devicePointer = (void*)pointer;
  if (attributes->type == cudaMemoryTypeHost) attributes->hostPointer = (void*)pointer;
  return kSuccess;
}
API int cudaMemPoolGetAttribute(void*, int, void* value) {
  *(uint64_t*)value = 0;
  return kSuccess;
}

// ---- Runtime: streams and events
CREATES(cudaStreamCreate)
CREATES(cudaStreamCreateWithPriority)
CREATES(cudaStreamCreateWithFlags)
SUCCEEDS(cudaStreamDestroy)
SUCCEEDS(cudaStreamQuery)
SUCCEEDS(cudaStreamWaitEvent)
API int cudaStreamGetPriority(Stream, int* priority) {
  *priority = 0;
  return kSuccess;
}
API int cudaStreamSynchronize() { return count_wait(); }
API int cudaStreamAddCallback(Stream stream, void (*function)(Stream, int, void*), void* data,
                              unsigned) {
  function(stream, kSuccess, data);
  return kSuccess;
}

static std::map<void*, timespec>& event_times = *new std::map<void*, timespec>;
CREATES(cudaEventCreate)
CREATES(cudaEventCreateWithFlags)
SUCCEEDS(cudaEventDestroy)
API int cudaEventQuery() {
  if (capturing) capture_broken = true;
  return capturing ? kCaptureUnsupported : kSuccess;
}
API int cudaEventRecord(void* event, Stream) {
  LOCK;
  clock_gettime(CLOCK_MONOTONIC, &event_times[event]);
  return kSuccess;
}
API int cudaEventRecordWithFlags(void* event, Stream stream, unsigned) {
  return cudaEventRecord(event, stream);
}
API int cudaEventSynchronize() { return count_wait(); }
API int cudaEventElapsedTime(float* ms, void* first, void* last) {
  LOCK;
  timespec start = event_times[first], end = event_times[last];
  *ms = (end.tv_sec - start.tv_sec) * 1e3 + (end.tv_nsec - start.tv_nsec) * 1e-6;
  return kSuccess;
}

// ---- Runtime: CUDA graphs, which torch.compile(mode='reduce-overhead') captures
API int cudaStreamIsCapturing(Stream, int* status) {
  *status = capturing ? 1 : 0;
  return kSuccess;
}
API int cudaStreamBeginCapture(Stream, int) {
  capturing = true;
  capture_broken = false;
  captured_launches = 0;
  return kSuccess;
}
API int cudaStreamEndCapture(Stream, void** graph) {
  capturing = false;
  create(graph);
  return capture_broken ? kCaptureInvalidated : kSuccess;
}
API int cudaStreamGetCaptureInfo(Stream, int* status, unsigned long long* id, void** graph,
                                 const void** dependencies, const void** edges, size_t* count) {
  *status = capturing ? 1 : 0;
  if (id) *id = 1;
  if (graph) *graph = nullptr;
  if (dependencies) *dependencies = nullptr;
  if (edges) *edges = nullptr;
  if (count) *count = 0;
  return kSuccess;
}
SUCCEEDS(cudaThreadExchangeStreamCaptureMode)
CREATES(cudaGraphInstantiateWithFlags)
LAUNCHES(cudaGraphLaunch)
API int cudaGraphGetNodes(void*, void**, size_t* count) {
  *count = captured_launches;
  return kSuccess;
}
SUCCEEDS(cudaGraphDestroy)
SUCCEEDS(cudaGraphExecDestroy)
SUCCEEDS(cudaGraphDebugDotPrint)
SUCCEEDS(cudaGraphNodeGetDependencies)

// ---- Runtime: functions, and calls that are only accepted
API int cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  memset(attributes, 0, sizeof *attributes);
  attributes->maxThreadsPerBlock = 1024;
  attributes->numRegs = 32;
  attributes->ptxVersion = attributes->binaryVersion = 90;
  attributes->maxDynamicSharedSizeBytes = 232448;
  return kSuccess;
}
SUCCEEDS(cudaFuncSetAttribute)
API int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*,
                                                               int threads, size_t, unsigned) {
  *blocks = threads > 1024 ? 1 : threads < 64 ? 32 : 2048 / threads;
  return kSuccess;
}
API int cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function,
                                                      int threads, size_t shared_bytes) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, threads,
                                                                shared_bytes, 0);
}
static int accept() { return kSuccess; }
API int cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned,
                                         unsigned long long, int* status) {
  *function = dlsym(RTLD_DEFAULT, symbol);
  if (!*function) *function = (void*)accept;
  if (status) *status = 0;
  return kSuccess;
}
SUCCEEDS(cudaDeviceEnablePeerAccess)
SUCCEEDS(cudaIpcCloseMemHandle)
SUCCEEDS(cudaIpcGetEventHandle)
SUCCEEDS(cudaIpcGetMemHandle)
SUCCEEDS(cudaIpcOpenEventHandle)
SUCCEEDS(cudaIpcOpenMemHandle)
SUCCEEDS(cudaMemPoolSetAccess)
SUCCEEDS(cudaMemPoolSetAttribute)
SUCCEEDS(cudaMemPoolTrimTo)
SUCCEEDS(cudaProfilerStart)
SUCCEEDS(cudaProfilerStop)

// ---- Driver, which Triton and cuBLAS call
SUCCEEDS(cuInit)
API int cuDriverGetVersion(int* version) { return cudaDriverGetVersion(version); }
API int cuDeviceGet(int* device, int index) {
  *device = index;
  return kSuccess;
}
API int cuDeviceGetCount(int* count) { return cudaGetDeviceCount(count); }
API int cuDeviceGetName(char* name, int size, int) {
  snprintf(name, size, "%s", kName);
  return kSuccess;
}
API int cuDeviceGetAttribute(int* value, int attribute, int device) {
  return cudaDeviceGetAttribute(value, attribute, device);
}
API int cuDevicePrimaryCtxGetState(int, unsigned* flags, int* active) {
  *flags = 0;
  *active = 1;
  return kSuccess;
}
API int cuDevicePrimaryCtxRetain(void** context, int) {
  *context = (void*)1;
  return kSuccess;
}
API int cuCtxGetCurrent(void** context) { return cuDevicePrimaryCtxRetain(context, 0); }
SUCCEEDS(cuCtxSetCurrent)
API int cuCtxGetDevice(int* device) { return cudaGetDevice(device); }
SUCCEEDS(cuCtxPushCurrent_v2)
SUCCEEDS(cuCtxPopCurrent_v2)
API int cuCtxGetLimit(size_t* value, int) {
  *value = 1024;
  return kSuccess;
}
SUCCEEDS(cuCtxSetLimit)
API int cuCtxSynchronize() { return count_wait(); }
API int cuStreamSynchronize() { return count_wait(); }
API int cuGetErrorString(int, const char** text) {
  *text = "error of the null GPU";
  return kSuccess;
}
API int cuGetErrorName(int status, const char** text) { return cuGetErrorString(status, text); }
CREATES(cuModuleLoadData)
CREATES(cuModuleLoadDataEx)
CREATES(cuModuleLoad)
CREATES(cuModuleGetFunction)
SUCCEEDS(cuModuleUnload)
API int cuModuleGetGlobal_v2(void** pointer, size_t* size, void*, const char*) {
  if (size) *size = 8;
  return pointer ? create(pointer) : kSuccess;
}
API int cuFuncGetAttribute(int* value, int attribute, void*) {
  // 0: the most threads of a block; 4: registers of a thread
  *value = attribute == 0 ? 1024 : attribute == 4 ? 32 : 0;
  return kSuccess;
}
SUCCEEDS(cuFuncSetAttribute)
SUCCEEDS(cuFuncSetCacheConfig)
LAUNCHES(cuLaunchKernel)
LAUNCHES(cuLaunchKernelEx)
LAUNCHES(cuLaunchCooperativeKernel)
API int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void* function, int threads,
                                                    size_t shared_bytes) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, threads, shared_bytes);
}
API int cuOccupancyMaxActiveClusters(int* clusters, void*, const void*) {
  *clusters = 66;
  return kSuccess;
}
API int cuPointerGetAttribute(void* value, int attribute, uintptr_t pointer) {
  if (attribute == 2) {  // the type of the memory; 2: device
    *(unsigned*)value = 2;
  } else {  // 3: the pointer for the device
    *(uint64_t*)value = attribute == 3 ? pointer : 0;
  }
  return kSuccess;
}
CREATES(cuLinkCreate_v2)
SUCCEEDS(cuLinkAddData_v2)
API int cuLinkComplete(void*, void** binary, size_t* size) {
  *size = 64;
  return create(binary);
}
API int cuMemAlloc_v2(void** pointer, size_t size) { return cudaMalloc(pointer, size); }
API int cuMemFree_v2(void* pointer) { return cudaFree(pointer); }
SUCCEEDS(cuTensorMapEncodeTiled)

// ---- cuBLAS
CREATES(cublasCreate_v2)
SUCCEEDS(cublasDestroy_v2)
API int cublasGetMathMode(void*, int* mode) {
  *mode = 0;
  return kSuccess;
}
API int cublasGetPointerMode_v2(void* handle, int* mode) { return cublasGetMathMode(handle, mode); }
SUCCEEDS(cublasSetMathMode)
SUCCEEDS(cublasSetPointerMode_v2)
SUCCEEDS(cublasSetStream_v2)
SUCCEEDS(cublasSetWorkspace_v2)
constexpr int kCublasVersion = 130100;
API size_t cublasLtGetVersion() { return kCublasVersion; }
API int cublasGetVersion_v2(void*, int* version) {
  *version = kCublasVersion;
  return kSuccess;
}
API int cublasGetProperty(int property, int* value) {  // 0, 1, 2: major, minor, patch level
  *value = property == 0 ? 13 : property == 1 ? 1 : 0;
  return kSuccess;
}
CREATES(cublasLtMatmulDescCreate)
CREATES(cublasLtMatmulPreferenceCreate)
CREATES(cublasLtMatrixLayoutCreate)
SUCCEEDS(cublasLtMatmulDescSetAttribute)
SUCCEEDS(cublasLtMatmulPreferenceSetAttribute)
SUCCEEDS(cublasLtMatrixLayoutSetAttribute)
static int destroy(void* handle) {
  free(handle);
  return kSuccess;
}
API int cublasLtMatmulDescDestroy(void* handle) { return destroy(handle); }
API int cublasLtMatmulPreferenceDestroy(void* handle) { return destroy(handle); }
API int cublasLtMatrixLayoutDestroy(void* handle) { return destroy(handle); }
API int cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*, void*, int,
                                       void* results, int* count) {
  memset(results, 0, 96);  // one cublasLtMatmulHeuristicResult_t
  *count = 1;
  return kSuccess;
}
LAUNCHES(cublasLtMatmul)
LAUNCHES(cublasGemmEx)
LAUNCHES(cublasGemmStridedBatchedEx)
LAUNCHES(cublasSgemm_v2)
LAUNCHES(cublasSgemmEx)
LAUNCHES(cublasSgemmStridedBatched)
LAUNCHES(cublasSgemv_v2)
LAUNCHES(cublasDgemm_v2)
LAUNCHES(cublasDgemmStridedBatched)
LAUNCHES(cublasDgemv_v2)
LAUNCHES(cublasSdot_v2)
LAUNCHES(cublasDdot_v2)
LAUNCHES(cublasDotEx)

// ---- cuDNN
API size_t cudnnGetVersion() { return 91900; }
API size_t cudnnGetCudartVersion() { return 13000; }
API const char* cudnnGetErrorString() { return "error of the null GPU"; }
API void cudnnGetLastErrorString(char* text, size_t size) {
  if (size) *text = 0;
}
CREATES(cudnnCreate)
SUCCEEDS(cudnnSetStream)
API int cudnnGetStream(void*, Stream* stream) {
  *stream = nullptr;
  return kSuccess;
}
CREATES(cudnnCreateActivationDescriptor)
CREATES(cudnnCreateConvolutionDescriptor)
CREATES(cudnnCreateDropoutDescriptor)
CREATES(cudnnCreateFilterDescriptor)
CREATES(cudnnCreateTensorDescriptor)
SUCCEEDS(cudnnDestroyActivationDescriptor)
SUCCEEDS(cudnnDestroyConvolutionDescriptor)
SUCCEEDS(cudnnDestroyDropoutDescriptor)
SUCCEEDS(cudnnDestroyFilterDescriptor)
SUCCEEDS(cudnnDestroyTensorDescriptor)
SUCCEEDS(cudnnSetActivationDescriptor)
SUCCEEDS(cudnnSetFilterNdDescriptor)
SUCCEEDS(cudnnSetTensorNdDescriptor)
LAUNCHES(cudnnBatchNormalizationForwardTrainingEx)
LAUNCHES(cudnnBatchNormalizationBackwardEx)
LAUNCHES(cudnnBatchNormalizationForwardInference)
API int cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(void*, int, int, void*, void*,
                                                                 void*, void*, void*,
                                                                 size_t* size) {
  *size = 0;
  return kSuccess;
}
API int cudnnGetBatchNormalizationBackwardExWorkspaceSize(void*, int, int, void*, void*, void*,
                                                          void*, void*, void*, void*,
                                                          size_t* size) {
  *size = 0;
  return kSuccess;
}
API int cudnnGetBatchNormalizationTrainingExReserveSpaceSize(void*, int, int, void*, void*,
                                                             size_t* size) {
  *size = 0;
  return kSuccess;
}

// cuDNN's graph API, which torch uses for convolutions. A plan is one launch.
enum { kInt64 = 3, kBackendDescriptor = 15 };  // cudnnBackendAttributeType_t
API int cudnnBackendCreateDescriptor(int, void** descriptor) { return create(descriptor); }
SUCCEEDS(cudnnBackendInitialize)
SUCCEEDS(cudnnBackendDestroyDescriptor)
SUCCEEDS(cudnnBackendFinalize)
SUCCEEDS(cudnnBackendSetAttribute)
API int cudnnBackendGetAttribute(void*, int, int type, int64_t capacity, int64_t* count,
                                 void* values) {
  bool is_size = type == kInt64 && values && capacity > 0;  // of the workspace
  if (is_size) *(int64_t*)values = 0;
  // One descriptor: the engine of a configuration, or the only configuration that is offered
  if (count) *count = is_size || type == kBackendDescriptor ? 1 : 0;
  return kSuccess;
}
LAUNCHES(cudnnBackendExecute)
