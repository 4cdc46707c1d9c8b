// Bit masks of bfloat16 values on processors that multiply those: each input is the sum of two bfloat16; what is left
// of it is below 2^-16 of the input.
#include "kernels.h"

#ifdef SS_X86
#include <immintrin.h>

namespace sparsearch {
namespace {

SS_TARGET_BEGIN("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bf16,fma,popcnt,bmi2")
#include "avx512.h"

// Of each 32 columns: 32 rounded inputs, then 32 times what the rounding left of them.
void prepare_two_bfloat16(const float* x, int64_t columns, int64_t tokens, unsigned char* to, float*) {
    int64_t width = padded(columns);
    for (int64_t t = 0; t < tokens; ++t, x += columns)
        for (int64_t c = 0; c < width; c += 16) {
            __m512 in = _mm512_maskz_loadu_ps(inside(columns - c), x + c);
            __m256bh upper = _mm512_cvtneps_pbh(in);
            __m512i wide = _mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)upper), 16);
            __m256bh lower = _mm512_cvtneps_pbh(_mm512_sub_ps(in, _mm512_castsi512_ps(wide)));
            unsigned char* at = to + (t * width + c / 32 * 32) * 4 + c % 32 * 2;
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), (__m256i)upper);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(at + 64), (__m256i)lower);
        }
}

template <bool kFull, int T>
void dot_products(const Bitmask& w, const Prepared& x, int64_t first, int64_t last, Output out) {
    constexpr int kChains = chains(T);
    int64_t blocks = padded(w.columns) / kBlock;
    for (int64_t g = first; g < last; ++g) {
        const Bfloat16* value = values_of<Bfloat16, kFull>(w, g);
        __m512 sums[kGroupRows][T][kChains];
        for (int r = 0; r < kGroupRows; ++r)
            for (int t = 0; t < T; ++t)
                for (int i = 0; i < kChains; ++i) sums[r][t][i] = _mm512_setzero_ps();
        for (int64_t b = 0; b < blocks; ++b) {
            __m512i v[kGroupRows][2];
            fetch_ahead<kFull>(value);
            if (kFull) fetch_ahead<kFull>(value + kBlock);
            for (int r = 0; r < kGroupRows; ++r) {
                uint64_t mask = kFull ? 0 : w.masks[(g * blocks + b) * kGroupRows + r];
                value = halves<kFull>(mask, value, v[r]);
            }
            for (int t = 0; t < T; ++t) {
                const unsigned char* in = x.data + t * x.stride + b * kBlock * 4;
                for (int j = 0; j < 4; ++j) {
                    __m512bh inputs = (__m512bh)_mm512_loadu_si512(in + 64 * j);
                    for (int r = 0; r < kGroupRows; ++r)
                        sums[r][t][j % kChains] =
                            _mm512_dpbf16_ps(sums[r][t][j % kChains], (__m512bh)v[r][j / 2], inputs);
                }
            }
        }
        for (int r = 0; r < kGroupRows && g * kGroupRows + r < w.rows; ++r)
            for (int t = 0; t < T; ++t)
                out.y[t * out.stride + g * kGroupRows + r] = total<kChains>(sums[r][t]);
    }
}

template <bool kFull>
void spread(const Bitmask& w, int64_t first, int64_t last, Bfloat16* to) {
    int64_t blocks = padded(w.columns) / kBlock;
    for (int64_t g = first; g < last; ++g) {
        const Bfloat16* value = values_of<Bfloat16, kFull>(w, g);
        for (int64_t b = 0; b < blocks; ++b)
            for (int r = 0; r < kGroupRows; ++r) {
                __m512i v[2];
                uint64_t mask = kFull ? 0 : w.masks[(g * blocks + b) * kGroupRows + r];
                value = halves<kFull>(mask, value, v);
                if (g * kGroupRows + r >= w.rows) continue;
                Bfloat16* at = to + ((g - first) * kGroupRows + r) * w.columns + b * kBlock;
                int64_t left = w.columns - b * kBlock;
                for (int i = 0; i < 2; ++i, at += 32, left -= 32)
                    if (left > 0) _mm512_mask_storeu_epi16(at, _cvtu32_mask32(left >= 32 ? ~0u : (1u << left) - 1), v[i]);
            }
    }
}

SS_TARGET_END

#define SS_DOT(tokens) dot_products<false, tokens>
#define SS_FULL_DOT(tokens) dot_products<true, tokens>
SS_BY_TOKENS(dot, SS_DOT)
SS_BY_TOKENS(full_dot, SS_FULL_DOT)

const BitmaskKernel kKernel = {prepare_two_bfloat16, dot, sizeof(float), kMostTokens, 1};
const BitmaskKernel kFullKernel = {prepare_two_bfloat16, full_dot, sizeof(float), kMostTokens, 1};

}  // namespace

const BitmaskKernel* avx512_dot(bool full) { return full ? &kFullKernel : &kKernel; }

Spread avx512_spread(bool full) { return full ? spread<true> : spread<false>; }

}  // namespace sparsearch
#endif
