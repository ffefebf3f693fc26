/* A CUDA runtime without a GPU: device memory is the host's, and one stream serves for all.
 *
 * As on a device, what is enqueued happens later, in order: here, when somebody waits for it. Time passes only by
 * doing: a copy takes 1 us, a kernel 5 us. The functions named fake_* are the tests' own.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { COPY, KERNEL, MARK };
enum { MAGIC = 0xcd, INVALID = 1, NO_MEMORY = 2, NOT_READY = 600 };

typedef void (*Kernel)(void);
typedef struct { double us; int passed; } Event;
typedef struct Op { int kind; void *to; const void *from; size_t size; Kernel kernel; Event *event; struct Op *next; } Op;
typedef struct { size_t size; size_t pad; } Head;

static Op *first, **last = &first;
static double us;
static int device_status, breaks_with, sticky, error, live;
static size_t used, limit = (size_t)1 << 40;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int held;

void fake_device(int status) { device_status = status; }
void fake_memory(size_t bytes) { limit = bytes; }
void fake_break(int code) { breaks_with = code; }
int fake_live(void) { return live; }
void fake_hold(int yes) { pthread_mutex_lock(&lock); held = yes; pthread_cond_broadcast(&changed); pthread_mutex_unlock(&lock); }

static int said(int code) { if (sticky) code = sticky; if (code) error = code; return code; }

static Op *put(int kind) {
  Op *op = calloc(1, sizeof *op);
  op->kind = kind; *last = op; last = &op->next;
  return op;
}

int fake_launch(Kernel kernel) { put(KERNEL)->kernel = kernel; return said(0); }

static int drain(void) {
  pthread_mutex_lock(&lock);
  while (held) pthread_cond_wait(&changed, &lock);
  pthread_mutex_unlock(&lock);
  while (first) {
    Op *op = first;
    first = op->next; if (!first) last = &first;
    if (!sticky) switch (op->kind) {
      case COPY: memcpy(op->to, op->from, op->size); us += 1; break;
      case KERNEL: us += 5; if (breaks_with) sticky = breaks_with; else op->kernel(); break;
      case MARK: op->event->us = us; op->event->passed = 1; break;
    }
    free(op);
  }
  return said(0);
}

static int make(void **address, size_t size, size_t *sum) {
  Head *head;
  if (sticky) return said(0);
  if (sum && used + size > limit) return said(NO_MEMORY);
  head = malloc(sizeof *head + size);
  head->size = sum ? size : 0; used += head->size; live++;
  memset(head + 1, MAGIC, size);
  *address = head + 1;
  return 0;
}

static int drop(void *address) {
  if (sticky) return said(0);
  if (address) { Head *head = (Head *)address - 1; used -= head->size; live--; free(head); }
  return 0;
}

int cudaSetDevice(int device) { return device_status ? device_status : device ? said(101) : said(0); }
int cudaRuntimeGetVersion(int *version) { *version = 11080; return 0; }
int cudaMalloc(void **address, size_t size) { return make(address, size, &used); }
int cudaMallocHost(void **address, size_t size) { return make(address, size, 0); }
int cudaFree(void *address) { drain(); return drop(address); }
int cudaFreeHost(void *address) { return drop(address); }
int cudaStreamCreateWithFlags(void **stream, unsigned flags) { (void)flags; return make(stream, 1, 0); }
int cudaStreamDestroy(void *stream) { drain(); return drop(stream); }
int cudaStreamSynchronize(void *stream) { (void)stream; return drain(); }
int cudaDeviceSynchronize(void) { return drain(); }
int cudaEventCreateWithFlags(void **event, unsigned flags) {
  int code = make(event, sizeof(Event), 0);
  (void)flags;
  if (!code) memset(*event, 0, sizeof(Event));
  return code;
}
int cudaEventDestroy(void *event) { drain(); return drop(event); }
int cudaEventRecord(void *event, void *stream) {
  (void)stream;
  ((Event *)event)->passed = 0; put(MARK)->event = event;
  return said(0);
}
int cudaEventSynchronize(void *event) { (void)event; return drain(); }
int cudaEventElapsedTime(float *ms, void *start, void *end) {
  if (!((Event *)start)->passed || !((Event *)end)->passed) return said(NOT_READY);
  *ms = (float)((((Event *)end)->us - ((Event *)start)->us) / 1e3);
  return said(0);
}
int cudaMemcpyAsync(void *to, const void *from, size_t size, int direction, void *stream) {
  Op *op;
  (void)stream;
  if (direction != 1 && direction != 2) return said(INVALID);
  op = put(COPY); op->to = to; op->from = from; op->size = size;
  return said(0);
}
int cudaGetLastError(void) { int code = error; error = 0; return sticky ? sticky : code; }
const char *cudaGetErrorString(int code) {
  switch (code) {
    case 2: return "out of memory";
    case 35: return "CUDA driver version is insufficient for CUDA runtime version";
    case 100: return "no CUDA-capable device is detected";
    case 101: return "invalid device ordinal";
    case 700: return "an illegal memory access was encountered";
    default: return "unrecognized error code";
  }
}
