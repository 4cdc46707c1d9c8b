// Bit masks with AVX-512: packed values are loaded once and spread over a register by the expand instructions of
// VBMI2. float32 is multiplied as it is. bfloat16 meets each input as the sum of two bfloat16 where the processor
// multiplies those (the rest is below 2^-16 of the input), else it is widened. int8 meets inputs in fixed point, 24
// bits below the largest input of the token, in three unsigned bytes, and is summed exactly in integers.
#include "kernels.h"

#ifdef SS_X86
#include <immintrin.h>

namespace sparsearch {
namespace {

SS_TARGET_BEGIN("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,fma,popcnt,bmi2")

// A load that stays one: expanding straight from memory is much slower on some processors.
inline __m512i load(const void* p) {
    __m512i v = _mm512_loadu_si512(p);
    __asm__("" : "+v"(v));
    return v;
}

// Far enough for memory to answer; measured, like all figures here, on an AMD EPYC of family 25 (Zen 4).
constexpr int64_t kAhead = 3072;

// The upper half by a shift of the integer: compilers prefer one of the mask register, which waits longer.
inline __mmask32 upper(uint64_t mask) {
    uint32_t half = static_cast<uint32_t>(mask >> 32);
    __asm__("" : "+r"(half));
    return half;
}

inline void fetch_ahead(const void* p) {
    __builtin_prefetch(static_cast<const char*>(p) + kAhead);
    __builtin_prefetch(static_cast<const char*>(p) + kAhead + 64);
}

// Sums per token: enough chains of additions to keep the multipliers busy, and few enough for the registers.
constexpr int chains(int tokens) { return tokens <= 2 ? 4 : tokens <= 4 ? 2 : 1; }

template <int N>
inline float total(const __m512* sums) {
    __m512 sum = sums[0];
    for (int i = 1; i < N; ++i) sum = _mm512_add_ps(sum, sums[i]);
    return _mm512_reduce_add_ps(sum);
}

struct Float32 {
    typedef float Value;
    // Columns 16 j to 16 j + 15 of a block in register j.
    static inline const Value* expand(uint64_t mask, const Value* p, __m512* v) {
        fetch_ahead(p);
        for (int j = 0; j < 4; ++j, mask >>= 16) {
            v[j] = _mm512_maskz_expand_ps(static_cast<__mmask16>(mask), _mm512_castsi512_ps(load(p)));
            p += __builtin_popcount(static_cast<uint16_t>(mask));
        }
        return p;
    }
};

struct Bfloat16 {
    typedef uint16_t Value;
    static inline const Value* halves(uint64_t mask, const Value* p, __m512i* v) {
        fetch_ahead(p);
        v[0] = _mm512_maskz_expand_epi16(static_cast<__mmask32>(mask), load(p));
        v[1] = _mm512_maskz_expand_epi16(
            upper(mask), load(p + __builtin_popcount(static_cast<uint32_t>(mask))));
        return p + __builtin_popcountll(mask);
    }
    // Of each 32 columns the even ones in one register, the odd ones in the next.
    static inline const Value* expand(uint64_t mask, const Value* p, __m512* v) {
        __m512i half[2];
        p = halves(mask, p, half);
        for (int j = 0; j < 2; ++j) {
            v[2 * j] = _mm512_castsi512_ps(_mm512_slli_epi32(half[j], 16));
            v[2 * j + 1] = _mm512_castsi512_ps(_mm512_and_si512(half[j], _mm512_set1_epi32(-65536)));
        }
        return p;
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
    constexpr int kChains = chains(T);
    int64_t blocks = padded(w.columns) / kBlock;
    for (int64_t g = first; g < last; ++g) {
        const uint64_t* masks = w.masks + g * blocks * kGroupRows;
        const typename Format::Value* value = static_cast<const typename Format::Value*>(w.values) + w.offsets[g];
        __m512 sums[kGroupRows][T][kChains];
        for (int r = 0; r < kGroupRows; ++r)
            for (int t = 0; t < T; ++t)
                for (int i = 0; i < kChains; ++i) sums[r][t][i] = _mm512_setzero_ps();
        for (int64_t b = 0; b < blocks; ++b, masks += kGroupRows) {
            __m512 v[kGroupRows][4];
            for (int r = 0; r < kGroupRows; ++r) value = Format::expand(masks[r], value, v[r]);
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

SS_TARGET_END
SS_TARGET_BEGIN("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512vnni,fma,popcnt,bmi2")

// Three bytes of an input lie in planes of 64 columns each: x = scale * (bytes - 2^23).
constexpr int kPlanes = 3;
// Less than 2^23 by more than the rounding of x / scale.
constexpr float kLargest = 8388352.0f;

void prepare_fixed_point(const float* x, int64_t columns, int64_t tokens, unsigned char* to, float* scales) {
    const __m512 sign = _mm512_set1_ps(-0.0f);
    int64_t width = padded(columns);
    for (int64_t t = 0; t < tokens; ++t, x += columns, to += kPlanes * width) {
        __m512 most = _mm512_setzero_ps();
        for (int64_t c = 0; c < columns; c += 16) {
            __mmask16 inside = static_cast<__mmask16>(columns - c >= 16 ? 0xffff : (1u << (columns - c)) - 1);
            most = _mm512_max_ps(most, _mm512_andnot_ps(sign, _mm512_maskz_loadu_ps(inside, x + c)));
        }
        float largest = _mm512_reduce_max_ps(most);
        // Below the smallest normal numbers the reciprocal would overflow; such inputs count as zero.
        float unit = largest > 1e-30f ? kLargest / largest : 0.0f;
        scales[t] = largest > 1e-30f ? largest / kLargest : 0.0f;
        for (int64_t c = 0; c < width; c += 16) {
            int64_t left = columns - c;
            __mmask16 inside = static_cast<__mmask16>(left >= 16 ? 0xffff : left <= 0 ? 0 : (1u << left) - 1);
            __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(inside, x + c), _mm512_set1_ps(unit));
            __m512i fixed = _mm512_add_epi32(_mm512_cvtps_epi32(scaled), _mm512_set1_epi32(1 << 23));
            unsigned char* block = to + c / kBlock * kBlock * kPlanes + c % kBlock;
            for (int plane = 0; plane < kPlanes; ++plane, fixed = _mm512_srli_epi32(fixed, 8))
                _mm_storeu_si128(
                    reinterpret_cast<__m128i*>(block + plane * kBlock), _mm512_cvtepi32_epi8(fixed));
        }
    }
}

template <int T>
void integers(const Bitmask& w, const Prepared& x, int64_t first, int64_t last, Output out) {
    int64_t blocks = padded(w.columns) / kBlock;
    for (int64_t g = first; g < last; ++g) {
        const uint64_t* masks = w.masks + g * blocks * kGroupRows;
        const int8_t* value = static_cast<const int8_t*>(w.values) + w.offsets[g];
        __m512i sums[kGroupRows][T][kPlanes];
        for (int r = 0; r < kGroupRows; ++r)
            for (int t = 0; t < T; ++t)
                for (int plane = 0; plane < kPlanes; ++plane) sums[r][t][plane] = _mm512_setzero_si512();
        for (int64_t b = 0; b < blocks; ++b, masks += kGroupRows) {
            __m512i v[kGroupRows];
            __builtin_prefetch(value + kAhead);
            for (int r = 0; r < kGroupRows; ++r) {
                v[r] = _mm512_maskz_expand_epi8(masks[r], load(value));
                value += __builtin_popcountll(masks[r]);
            }
            for (int t = 0; t < T; ++t) {
                const unsigned char* in = x.data + t * x.stride + b * kBlock * kPlanes;
                for (int plane = 0; plane < kPlanes; ++plane) {
                    __m512i inputs = _mm512_loadu_si512(in + plane * kBlock);
                    for (int r = 0; r < kGroupRows; ++r)
                        sums[r][t][plane] = _mm512_dpbusd_epi32(sums[r][t][plane], inputs, v[r]);
                }
            }
        }
        for (int r = 0; r < kGroupRows && g * kGroupRows + r < w.rows; ++r)
            for (int t = 0; t < T; ++t) {
                int64_t row = g * kGroupRows + r, whole = -(int64_t{1} << 23) * w.sums[row];
                for (int plane = 0; plane < kPlanes; ++plane)
                    whole += (int64_t{1} << (8 * plane)) * _mm512_reduce_add_epi32(sums[r][t][plane]);
                out.y[t * out.stride + row] = static_cast<float>(whole) * x.scales[t] * w.scales[row];
            }
    }
}

SS_TARGET_END
SS_TARGET_BEGIN("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bf16,fma,popcnt,bmi2")

// Of each 32 columns: 32 rounded inputs, then 32 times what the rounding left of them.
void prepare_two_bfloat16(const float* x, int64_t columns, int64_t tokens, unsigned char* to, float*) {
    int64_t width = padded(columns);
    for (int64_t t = 0; t < tokens; ++t, x += columns)
        for (int64_t c = 0; c < width; c += 16) {
            int64_t left = columns - c;
            __mmask16 inside = static_cast<__mmask16>(left >= 16 ? 0xffff : left <= 0 ? 0 : (1u << left) - 1);
            __m512 in = _mm512_maskz_loadu_ps(inside, x + c);
            __m256bh upper = _mm512_cvtneps_pbh(in);
            __m512i wide = _mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)upper), 16);
            __m256bh lower = _mm512_cvtneps_pbh(_mm512_sub_ps(in, _mm512_castsi512_ps(wide)));
            unsigned char* at = to + (t * width + c / 32 * 32) * 4 + c % 32 * 2;
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), (__m256i)upper);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(at + 64), (__m256i)lower);
        }
}

template <int T>
void dot_products(const Bitmask& w, const Prepared& x, int64_t first, int64_t last, Output out) {
    constexpr int kChains = chains(T);
    int64_t blocks = padded(w.columns) / kBlock;
    for (int64_t g = first; g < last; ++g) {
        const uint64_t* masks = w.masks + g * blocks * kGroupRows;
        const uint16_t* value = static_cast<const uint16_t*>(w.values) + w.offsets[g];
        __m512 sums[kGroupRows][T][kChains];
        for (int r = 0; r < kGroupRows; ++r)
            for (int t = 0; t < T; ++t)
                for (int i = 0; i < kChains; ++i) sums[r][t][i] = _mm512_setzero_ps();
        for (int64_t b = 0; b < blocks; ++b, masks += kGroupRows) {
            __m512i v[kGroupRows][2];
            __builtin_prefetch(value + kAhead / 2);
            __builtin_prefetch(value + kAhead / 2 + 32);
            for (int r = 0; r < kGroupRows; ++r) {
                uint64_t mask = masks[r];
                v[r][0] = _mm512_maskz_expand_epi16(static_cast<__mmask32>(mask), load(value));
                v[r][1] = _mm512_maskz_expand_epi16(
                    upper(mask),
                    load(value + __builtin_popcount(static_cast<uint32_t>(mask))));
                value += __builtin_popcountll(mask);
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

SS_TARGET_END

#define SS_BY_TOKENS(name, format)                                                                        \
    void name(const Bitmask& w, const Prepared& x, int64_t first, int64_t last, Output out) {            \
        static const Groups by_tokens[] = {format(1), format(2), format(3), format(4),                    \
                                           format(5), format(6), format(7), format(8)};                   \
        by_tokens[x.tokens - 1](w, x, first, last, out);                                                  \
    }
#define SS_FLOAT32(tokens) multiply_add<Float32, tokens>
#define SS_BFLOAT16(tokens) multiply_add<Bfloat16, tokens>
#define SS_DOT(tokens) dot_products<tokens>
#define SS_INT8(tokens) integers<(tokens) <= 2 ? (tokens) : 2>
SS_BY_TOKENS(float32, SS_FLOAT32)
SS_BY_TOKENS(bfloat16, SS_BFLOAT16)
SS_BY_TOKENS(bfloat16_dot, SS_DOT)
SS_BY_TOKENS(int8, SS_INT8)

const BitmaskKernel kKernels[] = {
    {prepare_plain, float32, sizeof(float), kMostTokens},
    {prepare_even_odd, bfloat16, sizeof(float), kMostTokens},
    // More sums than those of two tokens no longer fit the registers.
    {prepare_fixed_point, int8, kPlanes, 2},
};
const BitmaskKernel kDot = {prepare_two_bfloat16, bfloat16_dot, sizeof(float), kMostTokens};

}  // namespace

const BitmaskKernel* avx512_bitmask(int32_t kind, bool bfloat16_instructions) {
    return kind == kBfloat16 && bfloat16_instructions ? &kDot : kKernels + kind;
}

}  // namespace sparsearch
#endif
