// Bit masks without special instructions: a block is expanded into memory, then multiplied as a dense one, which
// compilers turn into the vector instructions that every processor of the architecture has (SSE2, NEON).
#include <string.h>

#include "kernels.h"

namespace sparsearch {

void prepare_plain(const float* x, int64_t columns, int64_t tokens, unsigned char* to, float*) {
    int64_t width = padded(columns);
    for (int64_t t = 0; t < tokens; ++t) {
        float* row = reinterpret_cast<float*>(to) + t * width;
        memcpy(row, x + t * columns, sizeof(float) * static_cast<size_t>(columns));
        memset(row + columns, 0, sizeof(float) * static_cast<size_t>(width - columns));
    }
}

namespace {

float widen(float value) { return value; }
float widen(int8_t value) { return static_cast<float>(value); }
float widen(uint16_t value) {
    uint32_t bits = static_cast<uint32_t>(value) << 16;
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

template <class Value>
const Value* expand(uint64_t mask, const Value* values, float* block) {
    for (int64_t c = 0; c < kBlock; ++c, mask >>= 1) block[c] = mask & 1 ? widen(*values++) : 0.0f;
    return values;
}

constexpr int kLanes = 16;

template <class Value>
void groups(const Bitmask& w, const Prepared& x, int64_t first, int64_t last, Output out) {
    int64_t blocks = padded(w.columns) / kBlock;
    for (int64_t g = first; g < last; ++g) {
        const uint64_t* mask = w.masks + g * blocks * kGroupRows;
        const Value* value = static_cast<const Value*>(w.values) + w.offsets[g];
        float sums[kGroupRows][kMostTokens][kLanes] = {};
        for (int64_t b = 0; b < blocks; ++b)
            for (int64_t r = 0; r < kGroupRows; ++r) {
                float block[kBlock];
                value = expand(*mask++, value, block);
                for (int64_t t = 0; t < x.tokens; ++t) {
                    const float* in = reinterpret_cast<const float*>(x.data + t * x.stride) + b * kBlock;
                    float* sum = sums[r][t];
                    for (int64_t c = 0; c < kBlock; c += kLanes)
                        for (int lane = 0; lane < kLanes; ++lane) sum[lane] += block[c + lane] * in[c + lane];
                }
            }
        for (int64_t r = 0; r < kGroupRows && g * kGroupRows + r < w.rows; ++r)
            for (int64_t t = 0; t < x.tokens; ++t) {
                int64_t row = g * kGroupRows + r;
                float total = 0;
                for (int lane = 0; lane < kLanes; ++lane) total += sums[r][t][lane];
                out.y[t * out.stride + row] = w.kind == kInt8 ? total * w.scales[row] : total;
            }
    }
}

const BitmaskKernel kKernels[] = {
    {prepare_plain, groups<float>, sizeof(float), kMostTokens},
    {prepare_plain, groups<uint16_t>, sizeof(float), kMostTokens},
    {prepare_plain, groups<int8_t>, sizeof(float), kMostTokens},
};

}  // namespace

const BitmaskKernel* portable_bitmask(int32_t kind) { return kKernels + kind; }

}  // namespace sparsearch
