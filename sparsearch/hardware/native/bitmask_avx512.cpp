// Bit masks with AVX-512: packed values are loaded once and spread over a register by the expand instructions of
// VBMI2, then widened to float32.
#include "kernels.h"

#ifdef SS_X86
#include <immintrin.h>

namespace sparsearch {
namespace {

SS_TARGET_BEGIN("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,fma,popcnt,bmi2")
#include "avx512.h"

// Columns 16 j to 16 j + 15 of a block in register j.
struct Float32s {
    typedef float Value;
    static constexpr bool kFull = false;
    static inline const Value* expand(uint64_t mask, const Value* p, __m512* v) {
        for (int j = 0; j < 4; ++j, mask >>= 16) {
            v[j] = _mm512_maskz_expand_ps(static_cast<__mmask16>(mask), _mm512_castsi512_ps(load(p)));
            p += __builtin_popcount(static_cast<uint16_t>(mask));
        }
        return p;
    }
};

template <bool Full>
struct Float16s {
    typedef Float16 Value;
    static constexpr bool kFull = Full;
    static inline const Value* expand(uint64_t mask, const Value* p, __m512* v) {
        for (int j = 0; j < 4; ++j, mask >>= 16) {
            __m256i part = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
            if (!kFull) {
                __asm__("" : "+v"(part));
                part = _mm256_maskz_expand_epi16(static_cast<__mmask16>(mask), part);
            }
            v[j] = _mm512_cvtph_ps(part);
            p += kFull ? 16 : __builtin_popcount(static_cast<uint16_t>(mask));
        }
        return p;
    }
};

// Of each 32 columns the even ones in one register, the odd ones in the next.
template <bool Full>
struct Bfloat16s {
    typedef Bfloat16 Value;
    static constexpr bool kFull = Full;
    static inline const Value* expand(uint64_t mask, const Value* p, __m512* v) {
        __m512i half[2];
        p = halves<kFull>(mask, p, half);
        for (int j = 0; j < 2; ++j) {
            v[2 * j] = _mm512_castsi512_ps(_mm512_slli_epi32(half[j], 16));
            v[2 * j + 1] = _mm512_castsi512_ps(_mm512_and_si512(half[j], _mm512_set1_epi32(-65536)));
        }
        return p;
    }
};

// For `widen` alone: products in the order of the columns would cost more than the above.
template <bool Full>
struct Bfloat16sInOrder {
    typedef Bfloat16 Value;
    static constexpr bool kFull = Full;
    static inline const Value* expand(uint64_t mask, const Value* p, __m512* v) {
        __m512i half[2];
        p = halves<kFull>(mask, p, half);
        for (int j = 0; j < 4; ++j) {
            __m256i quarter = _mm512_extracti64x4_epi64(half[j / 2], 0);
            if (j % 2) quarter = _mm512_extracti64x4_epi64(half[j / 2], 1);
            v[j] = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(quarter), 16));
        }
        return p;
    }
};

struct Int8s {
    typedef int8_t Value;
    static constexpr bool kFull = false;
    static inline const Value* expand(uint64_t mask, const Value* p, __m512* v) {
        int8_t bytes[kBlock];
        _mm512_storeu_si512(bytes, _mm512_maskz_expand_epi8(mask, load(p)));
        for (int j = 0; j < 4; ++j) {
            __m128i quarter = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + 16 * j));
            v[j] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(quarter));
        }
        return p + __builtin_popcountll(mask);
    }
};

void prepare_even_odd(const float* x, int64_t columns, int64_t tokens, unsigned char* to, float* scales) {
    prepare_plain(x, columns, tokens, to, scales);
    const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    float* p = reinterpret_cast<float*>(to);
    for (float* end = p + tokens * padded(columns); p < end; p += 32) {
        __m512 low = _mm512_loadu_ps(p), high = _mm512_loadu_ps(p + 16);
        _mm512_storeu_ps(p, _mm512_permutex2var_ps(low, even, high));
        _mm512_storeu_ps(p + 16, _mm512_permutex2var_ps(low, odd, high));
    }
}

template <class Format, int T>
void multiply_add(const Bitmask& w, const Prepared& x, int64_t first, int64_t last, Output out) {
    typedef typename Format::Value Value;
    constexpr int kChains = chains(T);
    int64_t blocks = padded(w.columns) / kBlock;
    for (int64_t g = first; g < last; ++g) {
        const Value* value = values_of<Value, Format::kFull>(w, g);
        __m512 sums[kGroupRows][T][kChains];
        for (int r = 0; r < kGroupRows; ++r)
            for (int t = 0; t < T; ++t)
                for (int i = 0; i < kChains; ++i) sums[r][t][i] = _mm512_setzero_ps();
        for (int64_t b = 0; b < blocks; ++b) {
            __m512 v[kGroupRows][4];
            for (int r = 0; r < kGroupRows; ++r) {
                uint64_t mask = Format::kFull ? 0 : w.masks[(g * blocks + b) * kGroupRows + r];
                fetch_ahead<Format::kFull>(value);
                value = Format::expand(mask, value, v[r]);
            }
            for (int t = 0; t < T; ++t) {
                const float* in = reinterpret_cast<const float*>(x.data + t * x.stride) + b * kBlock;
                for (int j = 0; j < 4; ++j) {
                    __m512 inputs = _mm512_loadu_ps(in + 16 * j);
                    for (int r = 0; r < kGroupRows; ++r)
                        sums[r][t][j % kChains] = _mm512_fmadd_ps(v[r][j], inputs, sums[r][t][j % kChains]);
                }
            }
        }
        for (int r = 0; r < kGroupRows && g * kGroupRows + r < w.rows; ++r)
            for (int t = 0; t < T; ++t)
                out.y[t * out.stride + g * kGroupRows + r] = total<kChains>(sums[r][t]);
    }
}

template <class Format>
void widen(const Bitmask& w, int64_t first, int64_t last, float* to) {
    typedef typename Format::Value Value;
    int64_t blocks = padded(w.columns) / kBlock;
    for (int64_t g = first; g < last; ++g) {
        const Value* value = values_of<Value, Format::kFull>(w, g);
        for (int64_t b = 0; b < blocks; ++b)
            for (int r = 0; r < kGroupRows; ++r) {
                __m512 v[4];
                float block[kBlock];
                uint64_t mask = Format::kFull ? 0 : w.masks[(g * blocks + b) * kGroupRows + r];
                value = Format::expand(mask, value, v);
                for (int j = 0; j < 4; ++j) _mm512_storeu_ps(block + 16 * j, v[j]);
                put_block(w, g * kGroupRows + r, b, block, first, to);
            }
    }
}

SS_TARGET_END

const Widen kWidens[] = {
    widen<Float32s>, widen<Bfloat16sInOrder<false>>, widen<Int8s>,
    widen<Float16s<false>>, widen<Bfloat16sInOrder<true>>, widen<Float16s<true>>,
};

#define SS_FLOAT32(tokens) multiply_add<Float32s, tokens>
#define SS_BFLOAT16(tokens) multiply_add<Bfloat16s<false>, tokens>
#define SS_FLOAT16(tokens) multiply_add<Float16s<false>, tokens>
#define SS_FULL_BFLOAT16(tokens) multiply_add<Bfloat16s<true>, tokens>
#define SS_FULL_FLOAT16(tokens) multiply_add<Float16s<true>, tokens>
SS_BY_TOKENS(float32, SS_FLOAT32)
SS_BY_TOKENS(bfloat16, SS_BFLOAT16)
SS_BY_TOKENS(float16, SS_FLOAT16)
SS_BY_TOKENS(full_bfloat16, SS_FULL_BFLOAT16)
SS_BY_TOKENS(full_float16, SS_FULL_FLOAT16)

const BitmaskKernel kFloat32Kernel = {prepare_plain, float32, sizeof(float), kMostTokens, 1};
const BitmaskKernel kBfloat16Kernel = {prepare_even_odd, bfloat16, sizeof(float), kMostTokens, 1};
const BitmaskKernel kFloat16Kernel = {prepare_plain, float16, sizeof(float), kMostTokens, 1};
const BitmaskKernel kFullBfloat16Kernel = {prepare_even_odd, full_bfloat16, sizeof(float), kMostTokens, 1};
const BitmaskKernel kFullFloat16Kernel = {prepare_plain, full_float16, sizeof(float), kMostTokens, 1};

}  // namespace

const BitmaskKernel* avx512_bitmask(int32_t kind, bool bfloat16_instructions) {
    switch (kind) {
        case kInt8: return avx512_int8();
        case kFloat16: return &kFloat16Kernel;
        case kFullFloat16: return &kFullFloat16Kernel;
        case kBfloat16: return bfloat16_instructions ? avx512_dot(false) : &kBfloat16Kernel;
        case kFullBfloat16: return bfloat16_instructions ? avx512_dot(true) : &kFullBfloat16Kernel;
        default: return &kFloat32Kernel;
    }
}

Widen avx512_widen(int32_t kind) { return kWidens[kind]; }

}  // namespace sparsearch
#endif
