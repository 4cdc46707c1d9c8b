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

void put_block(const Bitmask& w, int64_t row, int64_t b, const float* block, int64_t first, float* to) {
    if (row >= w.rows) return;
    int64_t column = b * kBlock, count = w.columns - column < kBlock ? w.columns - column : kBlock;
    float* at = to + (row - first * kGroupRows) * w.columns + column;
    memcpy(at, block, sizeof(float) * static_cast<size_t>(count));
    if (w.kind == kInt8)
        for (int64_t c = 0; c < count; ++c) at[c] *= w.scales[row];
}

namespace {

float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float widen(float value) { return value; }
float widen(int8_t value) { return static_cast<float>(value); }
float widen(Bfloat16 value) { return from_bits(static_cast<uint32_t>(value.bits) << 16); }
float widen(Float16 value) {
    uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16, rest = value.bits & 0x7fffu;
    if (rest < 0x0400u) return from_bits(sign | 0x3f800000u) * (static_cast<float>(rest) * 0x1p-24f);
    // The exponent counts from 15 there, from 127 here; that of infinities and NaN is the largest in both.
    uint32_t exponent = (rest < 0x7c00u ? 127u - 15u : 255u - 31u) << 23;
    return from_bits(sign | ((rest << 13) + exponent));
}

// The next block of a row: the values of the set bits of its mask, or all.
template <class Value, bool kFull>
const Value* store_block(uint64_t mask, const Value* values, float* block) {
    for (int64_t c = 0; c < kBlock; ++c, mask >>= 1) block[c] = kFull || (mask & 1) ? widen(*values++) : 0.0f;
    return values;
}

constexpr int kTokens = kMostTokens;
constexpr int kLanes = 16;

template <class Value, bool kFull>
void groups(const Bitmask& w, const Prepared& x, int64_t first, int64_t last, Output out) {
    int64_t blocks = padded(w.columns) / kBlock;
    for (int64_t g = first; g < last; ++g) {
        const Value* value = values_of<Value, kFull>(w, g);
        float sums[kGroupRows][kMostTokens][kLanes] = {};
        for (int64_t b = 0; b < blocks; ++b)
            for (int64_t r = 0; r < kGroupRows; ++r) {
                float block[kBlock];
                uint64_t mask = kFull ? 0 : w.masks[(g * blocks + b) * kGroupRows + r];
                value = store_block<Value, kFull>(mask, value, block);
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

#include "bitmask_kinds.inc"

}  // namespace

const BitmaskKernel* portable_bitmask(int32_t kind) { return kKernels + kind; }
Widen portable_widen(int32_t kind) { return kWidens[kind]; }

}  // namespace sparsearch
