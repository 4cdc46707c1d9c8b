// Threads: those of the OpenMP runtime that torch has loaded, so that both never compete for the cores; where there
// is none, threads of our own for the length of a call.
#include <dlfcn.h>

#include <atomic>
#include <thread>
#include <vector>

#include "kernels.h"

namespace sparsearch {
namespace {

struct Work {
    std::atomic<int64_t> next;
    int64_t items;
    void (*item)(void*, int64_t);
    void* context;
};

void take(void* pointer) {
    Work* work = static_cast<Work*>(pointer);
    for (int64_t i; (i = work->next.fetch_add(1, std::memory_order_relaxed)) < work->items;)
        work->item(work->context, i);
}

typedef void (*GompParallel)(void (*)(void*), void*, unsigned, unsigned);

GompParallel gomp() {
    static GompParallel found = reinterpret_cast<GompParallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    return found;
}

}  // namespace

void parallel(int threads, int64_t items, void (*item)(void*, int64_t), void* context) {
    // Items are drawn from a counter: the runtime may give fewer threads than asked for.
    Work work{{0}, items, item, context};
    if (threads > items) threads = static_cast<int>(items);
    if (threads <= 1) return take(&work);
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
