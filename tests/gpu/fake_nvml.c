/* A stand-in for NVIDIA's libnvidia-ml.so.1, with its ABI (nvml.h) and as much of it as the watchdog asks for.
 *
 * What it plays is read anew by each call from the file that FAKE_NVML names, a fact a line:
 *
 *   driver VERSION | cuda NUMBER
 *   gpu UUID                                      in the driver's order
 *   of UUID FIELD NUMBER                          a GPU without a field doesn't support it
 *   mig UUID INSTANCE GI CI TOTAL USED            a slice; "of UUID mig 1" turns the mode on
 *   process UUID-OR-INSTANCE PID USED GI CI KIND  KIND is compute or graphics; USED is - where it isn't told
 *   xid UUID NUMBER                               those that follow the event set's creation are delivered, once
 *   fail FUNCTION CODE [UUID-OR-INSTANCE]         the function answers with this code (for one)
 *   hang FUNCTION                                 it doesn't return while the line is there
 *   alias                                         events name their GPU by a handle that nobody has seen
 *
 * As in the real one, which GPUs there are is settled by the first nvmlInit, and one that is gone from the file is
 * lost until the last nvmlShutdown. Both are written down in the file's neighbour, FILE.log.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    TIMEOUT = 10,
    GPU_IS_LOST = 15,
};
enum { MOST = 16, LINE = 512, UUID = 96 };

#define NOT_AVAILABLE (~0ULL)

typedef unsigned long long u64;
typedef struct device *handle;

struct device {
    char uuid[UUID];
    char mig[UUID];   /* empty for a whole GPU */
    unsigned gi, ci;
    int lost;
    int watched;
};
struct memory { u64 total, free, used; };
struct utilization { unsigned gpu, memory; };
struct process { unsigned pid; u64 used; unsigned gi, ci; };
struct event { handle device; u64 type, data; unsigned gi, ci; };

_Static_assert(sizeof(struct memory) == 24, "nvmlMemory_t");
_Static_assert(sizeof(struct process) == 24, "nvmlProcessInfo_v2_t and _v3");
_Static_assert(sizeof(struct event) == 32, "nvmlEventData_t");

static int initialised;
static struct device gpus[MOST], slices[MOST], alias;
static unsigned gpu_count, slice_count;
static unsigned delivered; /* lines of xid that are over */

/* The nth line (from 0) that begins with `word`, without that word, into `rest`. */
static int line(const char *word, unsigned nth, char *rest)
{
    char text[LINE];
    size_t length = strlen(word);
    FILE *file = fopen(getenv("FAKE_NVML"), "r");
    int found = 0;
    while (file && !found && fgets(text, sizeof text, file))
        if (!strncmp(text, word, length) && (text[length] == ' ' || text[length] == '\n') && nth-- == 0)
            found = 1;
    if (file)
        fclose(file);
    if (found)
        strcpy(rest, text + length);
    return found;
}

static void note(const char *what)
{
    char name[LINE];
    snprintf(name, sizeof name, "%s.log", getenv("FAKE_NVML"));
    FILE *file = fopen(name, "a");
    if (file) {
        fprintf(file, "%s\n", what);
        fclose(file);
    }
}

static int listed(const char *uuid)
{
    char rest[LINE], each[UUID];
    for (unsigned n = 0; line("gpu", n, rest); n++)
        if (sscanf(rest, "%95s", each) == 1 && !strcmp(each, uuid))
            return 1;
    return 0;
}

static const char *own_uuid(handle device)
{
    return *device->mig ? device->mig : device->uuid;
}

static int field(handle device, const char *name, u64 *value)
{
    char rest[LINE], uuid[UUID], key[UUID];
    for (unsigned n = 0; line("of", n, rest); n++)
        if (sscanf(rest, "%95s %95s %llu", uuid, key, value) == 3 && !strcmp(uuid, device->uuid) && !strcmp(key, name))
            return SUCCESS;
    return NOT_SUPPORTED;
}

/* What stands in the way of `function`, of all GPUs or of this one; SUCCESS where nothing does. */
static int entered(const char *function, handle device)
{
    char rest[LINE], name[LINE], uuid[UUID];
    int code;
    for (unsigned n = 0; line("hang", n, rest); n++)
        if (sscanf(rest, "%511s", name) == 1 && !strcmp(name, function)) {
            usleep(1000);
            n = -1u; /* look again from the first line */
        }
    for (unsigned n = 0; line("fail", n, rest); n++) {
        *uuid = 0;
        if (sscanf(rest, "%511s %d %95s", name, &code, uuid) >= 2 && !strcmp(name, function)
            && (!*uuid || (device && !strcmp(uuid, own_uuid(device)))))
            return code;
    }
    if (!initialised && strcmp(function, "nvmlInitWithFlags"))
        return UNINITIALIZED;
    if (!device)
        return SUCCESS;
    if (!listed(device->uuid))
        device->lost = 1;
    return device->lost ? GPU_IS_LOST : SUCCESS;
}

#define ENTER(device)                                \
    do {                                             \
        int refused = entered(__func__, (device));   \
        if (refused)                                 \
            return refused;                          \
    } while (0)

#define ENTER_WHOLE(device)                          \
    do {                                             \
        ENTER(device);                               \
        if (*(device)->mig)                          \
            return INVALID_ARGUMENT;                 \
    } while (0)

static int number(handle device, const char *name, unsigned *value)
{
    u64 wide;
    int refused = field(device, name, &wide);
    if (!refused)
        *value = (unsigned)wide;
    return refused;
}

int nvmlInitWithFlags(unsigned flags)
{
    char rest[LINE];
    (void)flags;
    ENTER(NULL);
    note("init");
    if (initialised++)
        return SUCCESS;
    memset(gpus, 0, sizeof gpus);
    memset(slices, 0, sizeof slices);
    slice_count = 0;
    for (gpu_count = 0; gpu_count < MOST && line("gpu", gpu_count, rest); gpu_count++)
        sscanf(rest, "%95s", gpus[gpu_count].uuid);
    return SUCCESS;
}

int nvmlShutdown(void)
{
    ENTER(NULL);
    note("shutdown");
    initialised--;
    return SUCCESS;
}

const char *nvmlErrorString(int code)
{
    static char text[32];
    snprintf(text, sizeof text, "code %d", code);
    return text;
}

int nvmlSystemGetDriverVersion(char *version, unsigned length)
{
    char rest[LINE], word[LINE];
    ENTER(NULL);
    if (!line("driver", 0, rest) || sscanf(rest, "%511s", word) != 1)
        return NOT_SUPPORTED;
    snprintf(version, length, "%s", word);
    return SUCCESS;
}

int nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    char rest[LINE];
    ENTER(NULL);
    return line("cuda", 0, rest) && sscanf(rest, "%d", version) == 1 ? SUCCESS : NOT_SUPPORTED;
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
    ENTER(NULL);
    *count = gpu_count;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned at, handle *device)
{
    if (at >= gpu_count)
        return INVALID_ARGUMENT;
    ENTER(&gpus[at]);
    *device = &gpus[at];
    return SUCCESS;
}

int nvmlDeviceGetUUID(handle device, char *uuid, unsigned length)
{
    ENTER(device);
    snprintf(uuid, length, "%s", own_uuid(device));
    return SUCCESS;
}

int nvmlDeviceGetName(handle device, char *name, unsigned length)
{
    ENTER(device);
    snprintf(name, length, "Fake %s", device->uuid);
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(handle device, struct memory *memory)
{
    char rest[LINE], uuid[UUID], instance[UUID];
    int refused = NOT_FOUND;
    ENTER(device);
    if (!*device->mig)
        refused = field(device, "total", &memory->total) || field(device, "used", &memory->used) ? NOT_SUPPORTED : 0;
    for (unsigned n = 0; *device->mig && refused && line("mig", n, rest); n++)
        if (sscanf(rest, "%95s %95s %*u %*u %llu %llu", uuid, instance, &memory->total, &memory->used) == 4
            && !strcmp(instance, device->mig))
            refused = SUCCESS;
    memory->free = refused ? 0 : memory->total - memory->used;
    return refused;
}

int nvmlDeviceGetUtilizationRates(handle device, struct utilization *rates)
{
    ENTER_WHOLE(device);
    return number(device, "busy", &rates->gpu) || number(device, "memory_busy", &rates->memory) ? NOT_SUPPORTED : 0;
}

int nvmlDeviceGetTemperature(handle device, int sensor, unsigned *celsius)
{
    ENTER_WHOLE(device);
    return sensor ? INVALID_ARGUMENT : number(device, "temperature", celsius);
}

int nvmlDeviceGetPowerUsage(handle device, unsigned *milliwatts)
{
    ENTER_WHOLE(device);
    return number(device, "power", milliwatts);
}

int nvmlDeviceGetClockInfo(handle device, int type, unsigned *megahertz)
{
    static const char *const names[] = {"graphics_clock", "sm_clock", "memory_clock"};
    ENTER_WHOLE(device);
    return type > 2 ? INVALID_ARGUMENT : number(device, names[type], megahertz);
}

int nvmlDeviceGetCurrentClocksEventReasons(handle device, u64 *reasons)
{
    ENTER_WHOLE(device);
    return field(device, "reasons", reasons);
}

int nvmlDeviceGetCurrentClocksThrottleReasons(handle device, u64 *reasons)
{
    ENTER_WHOLE(device);
    return field(device, "reasons", reasons);
}

int nvmlDeviceGetTotalEccErrors(handle device, int kind, int since, u64 *count)
{
    ENTER_WHOLE(device);
    return since ? INVALID_ARGUMENT : field(device, kind ? "uncorrected" : "corrected", count);
}

int nvmlDeviceGetCudaComputeCapability(handle device, int *major, int *minor)
{
    ENTER_WHOLE(device);
    return number(device, "major", (unsigned *)major) || number(device, "minor", (unsigned *)minor) ? NOT_SUPPORTED : 0;
}

int nvmlDeviceGetMigMode(handle device, unsigned *current, unsigned *pending)
{
    ENTER_WHOLE(device);
    int refused = number(device, "mig", current);
    *pending = *current;
    return refused;
}

int nvmlDeviceGetMaxMigDeviceCount(handle device, unsigned *count)
{
    ENTER_WHOLE(device);
    *count = 7;
    return SUCCESS;
}

/* A slice's place is the sum of its numbers, so that there are gaps, as in the real one. */
int nvmlDeviceGetMigDeviceHandleByIndex(handle device, unsigned at, handle *slice)
{
    char rest[LINE], uuid[UUID], instance[UUID];
    unsigned gi, ci;
    ENTER_WHOLE(device);
    for (unsigned n = 0; line("mig", n, rest); n++)
        if (sscanf(rest, "%95s %95s %u %u", uuid, instance, &gi, &ci) == 4 && !strcmp(uuid, device->uuid)
            && gi + ci == at) {
            unsigned mine = 0;
            while (mine < slice_count && strcmp(slices[mine].mig, instance))
                mine++;
            if (mine == MOST)
                return INVALID_ARGUMENT;
            slice_count = mine < slice_count ? slice_count : mine + 1;
            strcpy(slices[mine].uuid, uuid);
            strcpy(slices[mine].mig, instance);
            slices[mine].gi = gi;
            slices[mine].ci = ci;
            *slice = &slices[mine];
            return SUCCESS;
        }
    return NOT_FOUND;
}

int nvmlDeviceGetGpuInstanceId(handle device, unsigned *id)
{
    ENTER(device);
    *id = device->gi;
    return *device->mig ? SUCCESS : NOT_SUPPORTED;
}

int nvmlDeviceGetComputeInstanceId(handle device, unsigned *id)
{
    ENTER(device);
    *id = device->ci;
    return *device->mig ? SUCCESS : NOT_SUPPORTED;
}

static int running(handle device, const char *wanted, unsigned *count, struct process *processes)
{
    char rest[LINE], holder[UUID], used[UUID], kind[UUID];
    unsigned found = 0, room = *count;
    struct process each;
    for (unsigned n = 0; line("process", n, rest); n++) {
        if (sscanf(rest, "%95s %u %95s %u %u %95s", holder, &each.pid, used, &each.gi, &each.ci, kind) != 6)
            continue;
        if (strcmp(kind, wanted) || strcmp(holder, own_uuid(device)))
            continue;
        each.used = *used == '-' ? NOT_AVAILABLE : strtoull(used, NULL, 10);
        if (processes && found < room)
            processes[found] = each;
        found++;
    }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : SUCCESS;
}

#define RUNNING(name, kind)                                                     \
    int name(handle device, unsigned *count, struct process *processes)         \
    {                                                                           \
        ENTER(device);                                                          \
        return running(device, kind, count, processes);                         \
    }

RUNNING(nvmlDeviceGetComputeRunningProcesses_v2, "compute")
RUNNING(nvmlDeviceGetComputeRunningProcesses_v3, "compute")
RUNNING(nvmlDeviceGetGraphicsRunningProcesses_v2, "graphics")
RUNNING(nvmlDeviceGetGraphicsRunningProcesses_v3, "graphics")

int nvmlEventSetCreate(void **set)
{
    char rest[LINE];
    ENTER(NULL);
    for (delivered = 0; line("xid", delivered, rest);)
        delivered++;
    for (unsigned n = 0; n < MOST; n++)
        gpus[n].watched = 0;
    *set = &delivered;
    return SUCCESS;
}

int nvmlEventSetFree(void *set)
{
    ENTER(NULL);
    return set == &delivered ? SUCCESS : INVALID_ARGUMENT;
}

int nvmlDeviceRegisterEvents(handle device, u64 types, void *set)
{
    ENTER(device);
    if (types != 8 || set != &delivered) /* 8 is nvmlEventTypeXidCriticalError */
        return INVALID_ARGUMENT;
    device->watched = 1;
    return SUCCESS;
}

int nvmlEventSetWait_v2(void *set, struct event *event, unsigned timeout_ms)
{
    char rest[LINE], uuid[UUID];
    (void)timeout_ms;
    ENTER(NULL);
    if (set != &delivered)
        return INVALID_ARGUMENT;
    while (line("xid", delivered, rest)) {
        delivered++;
        if (sscanf(rest, "%95s %llu", uuid, &event->data) != 2)
            continue;
        for (unsigned n = 0; n < gpu_count; n++)
            if (gpus[n].watched && !strcmp(gpus[n].uuid, uuid)) {
                alias = gpus[n];
                event->device = line("alias", 0, rest) ? &alias : &gpus[n];
                event->type = 8;
                event->gi = event->ci = ~0u;
                return SUCCESS;
            }
    }
    return TIMEOUT;
}
