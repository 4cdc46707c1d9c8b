// Threads: those of the OpenMP runtime that torch has loaded, so that both never compete for the cores; where there
// is none, threads of our own for the length of a call.
#include <dlfcn.h>

#include <atomic>
#include <thread>
#include <vector>

#include "kernels.h"

namespace sparsearch {
namespace {

// Items that lie together, so that a thread reads memory in order; who takes them counts up.
struct alignas(64) Range {
    std::atomic<int64_t> next;
    int64_t end;
};

constexpr int kMostRanges = 64;

struct Work {
    void (*item)(void*, int64_t);
    void* context;
    int count;
    std::atomic<int> joined{0};
    Range ranges[kMostRanges];
};

// The items of a range of one's own, then what others have left of theirs: the runtime may give fewer threads than
// asked for, and some may be slow.
void take(void* pointer) {
    Work& work = *static_cast<Work*>(pointer);
    int own = work.joined.fetch_add(1, std::memory_order_relaxed);
    for (int i = 0; i < work.count; ++i) {
        Range& range = work.ranges[(own + i) % work.count];
        for (int64_t at; (at = range.next.fetch_add(1, std::memory_order_relaxed)) < range.end;)
            work.item(work.context, at);
    }
}

typedef void (*GompParallel)(void (*)(void*), void*, unsigned, unsigned);

GompParallel gomp() {
    static GompParallel found = reinterpret_cast<GompParallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    return found;
}

}  // namespace

void parallel(int threads, int64_t items, void (*item)(void*, int64_t), void* context) {
    if (threads > items) threads = static_cast<int>(items);
    if (threads <= 1) {
        for (int64_t i = 0; i < items; ++i) item(context, i);
        return;
    }
    Work work;
    work.item = item;
    work.context = context;
    work.count = threads < kMostRanges ? threads : kMostRanges;
    for (int i = 0; i < work.count; ++i) {
        work.ranges[i].next = items * i / work.count;
        work.ranges[i].end = items * (i + 1) / work.count;
    }
    if (gomp()) return gomp()(take, &work, static_cast<unsigned>(threads), 0);
    std::vector<std::thread> team;
    try {
        for (int i = 1; i < threads; ++i) team.emplace_back(take, &work);
    } catch (...) {
        // No more threads or memory: those there are take everything.
    }
    take(&work);
    for (std::thread& thread : team) thread.join();
}

}  // namespace sparsearch
