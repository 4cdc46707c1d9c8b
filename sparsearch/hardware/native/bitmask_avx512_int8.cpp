// Bit masks of int8 values with AVX-512 VNNI: they meet inputs in fixed point, 24 bits below the largest input of the
// token, in three unsigned bytes, and are summed exactly in integers.
#include "kernels.h"

#ifdef SS_X86
#include <immintrin.h>

namespace sparsearch {
namespace {

SS_TARGET_BEGIN("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512vnni,fma,popcnt,bmi2")
#include "avx512.h"

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
            most = _mm512_max_ps(most, _mm512_andnot_ps(sign, _mm512_maskz_loadu_ps(inside(columns - c), x + c)));
        }
        float largest = _mm512_reduce_max_ps(most);
        // Below the smallest normal numbers the reciprocal would overflow; such inputs count as zero.
        float unit = largest > 1e-30f ? kLargest / largest : 0.0f;
        scales[t] = largest > 1e-30f ? largest / kLargest : 0.0f;
        for (int64_t c = 0; c < width; c += 16) {
            __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(inside(columns - c), x + c), _mm512_set1_ps(unit));
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

#define SS_INT8(tokens) integers<(tokens) <= 2 ? (tokens) : 2>
SS_BY_TOKENS(int8, SS_INT8)

// More sums than those of two tokens no longer fit the registers.
const BitmaskKernel kKernel = {prepare_fixed_point, int8, kPlanes, 2, 1};

}  // namespace

const BitmaskKernel* avx512_int8() { return &kKernel; }

}  // namespace sparsearch
#endif
