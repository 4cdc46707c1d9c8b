// The C interface: which instructions this processor has, and products with several tokens and threads.
#include <atomic>
#include <cstdlib>
#include <cstring>

#include "kernels.h"

namespace sparsearch {
namespace {

// Counted for each architecture from its least demanding instructions on.
enum Level { kPortable = 0, kAvx2 = 1, kAvx512 = 2, kAvx512Bf16 = 3, kAmx = 4, kNeon = 1 };

int best_level() {
#ifdef SS_X86
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt") &&
                __builtin_cpu_supports("f16c");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2") &&
                  __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("bmi2");
    if (avx512 && __builtin_cpu_supports("avx512bf16")) {
#ifdef SS_AMX
        if (has_amx()) return kAmx;
#endif
        return kAvx512Bf16;
    }
    if (avx512) return kAvx512;
    return avx2 ? kAvx2 : kPortable;
#elif defined(SS_NEON)
    return kNeon;
#else
    return kPortable;
#endif
}

// Intel's processors take several cycles for a product of bfloat16 pairs: for one token at 60 to 80 % zeros that makes
// 0.38 to 0.40 ms of what widening to float32 does in 0.25 to 0.31 (2048 x 2048, Sapphire Rapids).
int usual_level(int best) {
#ifdef SS_X86
    if (best == kAvx512Bf16 && __builtin_cpu_is("intel")) return kAvx512;
#endif
    return best;
}

const int kBest = best_level(), kUsual = usual_level(kBest);
std::atomic<int> level{kUsual};

// What inputs are: without infinities when rounded to bfloat16, and with no more bits than that.
struct Nature {
    bool finite, bfloat16;
};

Nature nature_of(const float* x, int64_t count) {
    uint32_t infinite = 0, all = 0;
    for (int64_t i = 0; i < count; ++i) {
        uint32_t bits;
        std::memcpy(&bits, x + i, sizeof bits);
        infinite |= (bits & 0x7fffffffu) + 0x00808000u;  // from the largest bfloat16 and a half step on
        all |= bits;
    }
    return {(infinite & 0x80000000u) == 0, (all & 0xffffu) == 0};
}

bool is_bfloat16(int32_t kind) { return kind == kBfloat16 || kind == kFullBfloat16; }

const BitmaskKernel* bitmask_kernel(const Bitmask& w, const Nature& x, int64_t tokens) {
#ifdef SS_X86
    int now = level;
    // What is split into parts or fixed point has no infinities: those products are made in float32.
    bool split = w.finite && x.finite;
#ifdef SS_AMX
    // One token is multiplied faster without tiles.
    if (now >= kAmx && is_bfloat16(w.kind) && split && tokens > 1)
        return amx_bitmask(w.kind == kFullBfloat16, x.bfloat16);
#endif
    if (now >= kAvx512 && (w.kind != kInt8 || split)) return avx512_bitmask(w.kind, now == kAvx512Bf16 && split);
    if (now >= kAvx2) return avx2_bitmask(w.kind);
#elif defined(SS_NEON)
    if (level >= kNeon) return neon_bitmask(w.kind);
#endif
    return portable_bitmask(w.kind);
}

Widen widen_kernel(int32_t kind) {
#ifdef SS_X86
    if (level >= kAvx512) return avx512_widen(kind);
    if (level >= kAvx2) return avx2_widen(kind);
#elif defined(SS_NEON)
    if (level >= kNeon) return neon_widen(kind);
#endif
    return portable_widen(kind);
}

Spread spread_kernel(int32_t kind) {
#ifdef SS_X86
    if (level >= kAvx512Bf16 && is_bfloat16(kind)) return avx512_spread(kind == kFullBfloat16);
#endif
    return nullptr;
}

const Csr16Kernel* csr16_kernel() {
#ifdef SS_X86
    if (level >= kAvx512) return avx512_csr16();
    if (level >= kAvx2) return avx2_csr16();
#endif
    return portable_csr16();
}

// Memory that a thread keeps for its next product, aligned to cache lines.
class Scratch {
  public:
    ~Scratch() { std::free(data_); }
    // Null where there is no more memory.
    unsigned char* of(size_t bytes) {
        if (bytes > size_) {
            std::free(data_);
            size_ = (bytes + 4095) / 4096 * 4096;
            data_ = static_cast<unsigned char*>(std::aligned_alloc(64, size_));
            if (!data_) size_ = 0;
        }
        return data_;
    }

  private:
    unsigned char* data_ = nullptr;
    size_t size_ = 0;
};
thread_local Scratch scratch;

struct BitmaskCall {
    const Bitmask* w;
    const BitmaskKernel* kernel;
    const Prepared* inputs;
    int64_t passes, groups, share;
    float* y;
};

void bitmask_item(void* context, int64_t item) {
    const BitmaskCall& call = *static_cast<BitmaskCall*>(context);
    int64_t last = (item + 1) * call.share < call.groups ? (item + 1) * call.share : call.groups;
    // Few groups at a time, so that the next tokens find their values in the cache.
    int64_t step = call.passes > 1 ? 4 * call.kernel->groups_together : call.share;
    for (int64_t first = item * call.share; first < last; first += step) {
        int64_t end = first + step < last ? first + step : last;
        for (int64_t pass = 0; pass < call.passes; ++pass) {
            Output out{call.y + pass * call.kernel->most_tokens * call.w->rows, call.w->rows};
            call.kernel->groups(*call.w, call.inputs[pass], first, end, out);
        }
    }
}

template <class To>
struct RowsCall {
    const Bitmask* w;
    void (*rows)(const Bitmask&, int64_t, int64_t, To*);
    int64_t first, last;  // groups
    To* to;
};

constexpr int64_t kWidenedTogether = 8;

template <class To>
void rows_item(void* context, int64_t item) {
    const RowsCall<To>& call = *static_cast<RowsCall<To>*>(context);
    int64_t from = item * kWidenedTogether, first = call.first + from;
    call.rows(*call.w, first, at_most(first + kWidenedTogether, call.last),
              call.to + from * kGroupRows * call.w->columns);
}

template <class To>
void write_rows(const Bitmask* w, void (*rows)(const Bitmask&, int64_t, int64_t, To*), int64_t first, int64_t last,
                To* to, int threads) {
    RowsCall<To> call{w, rows, first / kGroupRows, (last + kGroupRows - 1) / kGroupRows, to};
    int64_t groups = call.last - call.first;
    parallel(threads, (groups + kWidenedTogether - 1) / kWidenedTogether, rows_item<To>, &call);
}

struct Csr16Call {
    const Csr16* w;
    Rows rows;
    int64_t tile, tokens, row_blocks;
    const float *x, *xt;
    float* y;
};

void transpose_item(void* context, int64_t tile) {
    const Csr16Call& call = *static_cast<Csr16Call*>(context);
    int64_t columns = call.w->columns, first = tile * call.tile, count = at_most(call.tokens - first, call.tile);
    float* to = const_cast<float*>(call.xt) + first * columns;
    const float* from = call.x + first * columns;
    for (int64_t start = 0; start < columns; start += 16) {
        int64_t end = at_most(start + 16, columns);
        for (int64_t t = 0; t < call.tile; ++t)
            for (int64_t c = start; c < end; ++c) to[c * call.tile + t] = t < count ? from[t * columns + c] : 0.0f;
    }
}

void csr16_item(void* context, int64_t item) {
    const Csr16Call& call = *static_cast<Csr16Call*>(context);
    alignas(64) float yt[kRowBlock * 64];
    int64_t tile = item / call.row_blocks, block = item % call.row_blocks, rows = call.w->rows;
    call.rows(*call.w, call.xt + tile * call.tile * call.w->columns, block, yt);
    int64_t count = at_most(call.tokens - tile * call.tile, call.tile);
    int64_t height = at_most(rows - block * kRowBlock, kRowBlock);
    for (int64_t t = 0; t < count; ++t) {
        float* out = call.y + (tile * call.tile + t) * rows + block * kRowBlock;
        for (int64_t r = 0; r < height; ++r) out[r] = yt[r * call.tile + t];
    }
}

// One token: no vectors of tokens; four sums in turn.
void csr16_vector_item(void* context, int64_t block) {
    const Csr16Call& call = *static_cast<Csr16Call*>(context);
    const Csr16& w = *call.w;
    float sums[kRowBlock] = {};
    const int32_t* start = w.starts + block * w.chunks * kRowBlock;
    for (int64_t chunk = 0; chunk < w.chunks; ++chunk)
        for (int64_t r = 0; r < kRowBlock; ++r, ++start) {
            float part[4] = {};
            int32_t at = start[0], end = start[1];
            for (; at + 4 <= end; at += 4)
                for (int i = 0; i < 4; ++i) part[i] += w.values[at + i] * call.x[w.indices[at + i]];
            for (; at < end; ++at) part[0] += w.values[at] * call.x[w.indices[at]];
            sums[r] += (part[0] + part[1]) + (part[2] + part[3]);
        }
    int64_t height = at_most(w.rows - block * kRowBlock, kRowBlock);
    std::memcpy(call.y + block * kRowBlock, sums, sizeof(float) * static_cast<size_t>(height));
}

// What a dense product has and the above has not: zero times an infinity or NaN is NaN. False: out of memory.
bool spoil(const Csr16& w, const float* x, int64_t tokens, float* y) {
    unsigned char* stored = static_cast<unsigned char*>(std::malloc(static_cast<size_t>(w.columns)));
    if (!stored) return false;
    for (int64_t row = 0; row < w.rows; ++row) {
        std::memset(stored, 0, static_cast<size_t>(w.columns));
        const int32_t* start = w.starts + row / kRowBlock * w.chunks * kRowBlock + row % kRowBlock;
        for (int64_t chunk = 0; chunk < w.chunks; ++chunk, start += kRowBlock)
            for (int32_t at = start[0]; at < start[1]; ++at) stored[w.indices[at]] = 1;
        for (int64_t t = 0; t < tokens; ++t)
            for (int64_t c = 0; c < w.columns; ++c)
                if (!stored[c]) y[t * w.rows + row] += 0.0f * x[t * w.columns + c];
    }
    std::free(stored);
    return true;
}

}  // namespace
}  // namespace sparsearch

extern "C" {

// What this processor can: 0 portable; 1 AVX2, 2 AVX-512 VBMI2, 3 with bfloat16 products, 4 with AMX; on ARM 1 NEON.
int sparsearch_best_level() { return sparsearch::kBest; }

// Uses a level up to the best (for tests); one that is higher stands for what is used without it.
void sparsearch_use_level(int level) {
    sparsearch::level = level <= sparsearch::kBest ? level : sparsearch::kUsual;
}

// y [tokens, rows] = x [tokens, columns] times the weights' transpose. Nonzero: out of memory.
int sparsearch_bitmask(const sparsearch::Bitmask* w, const float* x, int64_t tokens, float* y, int threads) {
    using namespace sparsearch;
    if (tokens <= 0 || w->rows <= 0) return 0;
    const BitmaskKernel* kernel = bitmask_kernel(*w, nature_of(x, tokens * w->columns), tokens);
    int64_t passes = (tokens + kernel->most_tokens - 1) / kernel->most_tokens;
    int64_t stride = padded(w->columns) * kernel->bytes_per_column;
    size_t table = static_cast<size_t>(passes) * sizeof(Prepared) / 64 * 64 + 64;
    size_t scales = static_cast<size_t>(tokens) * sizeof(float) / 64 * 64 + 64;
    unsigned char* memory = scratch.of(table + scales + static_cast<size_t>(stride * tokens));
    if (!memory) return 1;
    Prepared* inputs = reinterpret_cast<Prepared*>(memory);
    for (int64_t pass = 0; pass < passes; ++pass) {
        int64_t first = pass * kernel->most_tokens, count = at_most(tokens - first, kernel->most_tokens);
        unsigned char* to = memory + table + scales + first * stride;
        float* units = reinterpret_cast<float*>(memory + table) + first;
        kernel->prepare(x + first * w->columns, w->columns, count, to, units);
        inputs[pass] = Prepared{to, stride, count, units};
    }
    int64_t groups = (w->rows + kGroupRows - 1) / kGroupRows;
    int64_t share = threads > 1 ? (groups + 8 * threads - 1) / (8 * threads) : groups;
    share = (share + kernel->groups_together - 1) / kernel->groups_together * kernel->groups_together;
    BitmaskCall call{w, kernel, inputs, passes, groups, share, y};
    parallel(threads, (groups + share - 1) / share, bitmask_item, &call);
    return 0;
}

// Rows `first`, which is even, to `last` of the weights, zeros included: to [last - first, columns].
void sparsearch_bitmask_rows(const sparsearch::Bitmask* w, int64_t first, int64_t last, float* to, int threads) {
    sparsearch::write_rows(w, sparsearch::widen_kernel(w->kind), first, last, to, threads);
}

// The same in bfloat16, where sparsearch_bitmask_spreads.
void sparsearch_bitmask_bfloat16_rows(const sparsearch::Bitmask* w, int64_t first, int64_t last,
                                      sparsearch::Bfloat16* to, int threads) {
    sparsearch::write_rows(w, sparsearch::spread_kernel(w->kind), first, last, to, threads);
}

// Whether there are rows in bfloat16: of such values, where the processor multiplies them quickly.
int sparsearch_bitmask_spreads(const sparsearch::Bitmask* w) { return sparsearch::spread_kernel(w->kind) != nullptr; }

// Whether products of many tokens with finite inputs are made in tiles: faster than widening the weights for others.
int sparsearch_bitmask_in_tiles(const sparsearch::Bitmask* w) {
    return sparsearch::level >= sparsearch::kAmx && sparsearch::is_bfloat16(w->kind) && w->finite;
}

int sparsearch_csr16(const sparsearch::Csr16* w, const float* x, int64_t tokens, float* y, int threads) {
    using namespace sparsearch;
    if (tokens <= 0 || w->rows <= 0) return 0;
    const Csr16Kernel* kernel = csr16_kernel();
    int64_t tile = tokens <= 8 ? 8 : tokens <= 16 ? 16 : tokens <= 32 ? 32 : 64;
    Rows rows = tile == 8 ? kernel->rows8 : tile == 16 ? kernel->rows16 : tile == 32 ? kernel->rows32 : kernel->rows64;
    int64_t tiles = (tokens + tile - 1) / tile, row_blocks = (w->rows + kRowBlock - 1) / kRowBlock;
    Csr16Call call{w, rows, tile, tokens, row_blocks, x, x, y};
    if (tokens == 1) {
        parallel(threads, row_blocks, csr16_vector_item, &call);
    } else {
        size_t bytes = static_cast<size_t>(tiles * tile * w->columns) * sizeof(float);
        call.xt = reinterpret_cast<const float*>(scratch.of(bytes));
        if (!call.xt) return 1;
        parallel(threads, tiles, transpose_item, &call);
        parallel(threads, tiles * row_blocks, csr16_item, &call);
    }
    return nature_of(x, tokens * w->columns).finite || spoil(*w, x, tokens, y) ? 0 : 1;
}

}  // extern "C"
