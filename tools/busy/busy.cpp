// How long a GPU works on each training step, by its own clock: a library that the CUDA driver loads into the program
// (CUDA_INJECTION64_PATH) and that collects the beginning and end of every kernel, copy and fill with CUPTI. When the program
// ends, a line goes to the file named by BUSY_OUT: the median over the last half of the steps. A step ends with adamw_step.
// Built and run by busy.sh, which also passes KERNEL, MEMCPY and MEMSET, the records' types in the headers at hand.
#include <cupti.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <vector>

namespace {

struct Interval {
    uint64_t start, end;
    bool ends_step;
};

std::mutex lock;
std::vector<Interval> intervals;

void request(uint8_t** buffer, size_t* size, size_t* records) {
    *size = 8 << 20;
    *buffer = static_cast<uint8_t*>(std::aligned_alloc(8, *size));
    *records = 0;
}

void complete(CUcontext, uint32_t, uint8_t* buffer, size_t, size_t valid) {
    std::lock_guard<std::mutex> held(lock);
    CUpti_Activity* record = nullptr;
    while (cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS) {
        if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
            auto* k = reinterpret_cast<KERNEL*>(record);
            intervals.push_back({k->start, k->end, k->name && std::strstr(k->name, "adamw_step") != nullptr});
        } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
            auto* m = reinterpret_cast<MEMCPY*>(record);
            intervals.push_back({m->start, m->end, false});
        } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMSET) {
            auto* m = reinterpret_cast<MEMSET*>(record);
            intervals.push_back({m->start, m->end, false});
        }
    }
    std::free(buffer);
}

void report() {
    cuptiActivityFlushAll(1);
    std::lock_guard<std::mutex> held(lock);
    std::sort(intervals.begin(), intervals.end(), [](const Interval& a, const Interval& b) { return a.start < b.start; });
    struct Step {
        uint64_t busy;
        size_t pieces;
    };
    std::vector<Step> steps;
    uint64_t busy = 0, reached = 0;
    size_t pieces = 0;
    for (const Interval& i : intervals) {
        uint64_t from = std::max(i.start, reached);
        if (i.end > from) busy += i.end - from, reached = i.end;
        pieces++;
        if (i.ends_step) steps.push_back({busy, pieces}), busy = 0, pieces = 0;
    }
    const char* path = std::getenv("BUSY_OUT");
    FILE* out = path ? std::fopen(path, "w") : stderr;
    if (!out) return;
    if (steps.empty()) {
        std::fprintf(out, "no step seen among %zu records\n", intervals.size());
    } else {
        std::vector<Step> late(steps.begin() + steps.size() / 2, steps.end());
        std::sort(late.begin(), late.end(), [](const Step& a, const Step& b) { return a.busy < b.busy; });
        const Step& median = late[late.size() / 2];
        std::fprintf(out, "%.3f %zu %zu\n", median.busy / 1e6, median.pieces, steps.size());
    }
    if (path) std::fclose(out);
}

}  // namespace

extern "C" int InitializeInjection() {
    cuptiActivityRegisterCallbacks(request, complete);
    for (CUpti_ActivityKind kind : {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, CUPTI_ACTIVITY_KIND_MEMCPY, CUPTI_ACTIVITY_KIND_MEMSET})
        cuptiActivityEnable(kind);
    std::atexit(report);
    return 1;
}
