// Bit masks with AVX2: eight values at a time are widened to float32 and brought to their columns by a permutation
// that the eight mask bits choose from a table.
#include "kernels.h"

#ifdef SS_X86
#include <immintrin.h>

namespace sparsearch {
namespace {

// Byte c of entry m: which of the packed values goes to column c; 0x80 where bit c of m is not set.
struct Places {
    uint64_t of[256];
    constexpr Places() : of() {
        for (int m = 0; m < 256; ++m) {
            uint64_t next = 0;
            for (int c = 0; c < 8; ++c) of[m] |= (m >> c & 1 ? next++ : 0x80) << (8 * c);
        }
    }
};
constexpr Places kPlaces;

SS_TARGET_BEGIN("avx2,fma,popcnt")

inline __m256 load8(const float* p) { return _mm256_loadu_ps(p); }
inline __m256 load8(const uint16_t* p) {
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
inline __m256 load8(const int8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}

inline float total(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

template <class Value, int T>
void some(const Bitmask& w, const Prepared& x, int64_t first, int64_t last, Output out) {
    int64_t blocks = padded(w.columns) / kBlock;
    for (int64_t g = first; g < last; ++g) {
        const uint64_t* masks = w.masks + g * blocks * kGroupRows;
        const Value* value = static_cast<const Value*>(w.values) + w.offsets[g];
        __m256 sums[kGroupRows][T];
        for (int r = 0; r < kGroupRows; ++r)
            for (int t = 0; t < T; ++t) sums[r][t] = _mm256_setzero_ps();
        for (int64_t b = 0; b < blocks; ++b)
            for (int r = 0; r < kGroupRows; ++r) {
                uint64_t mask = *masks++;
                for (int64_t c = b * kBlock; c < (b + 1) * kBlock; c += 8, mask >>= 8) {
                    unsigned bits = mask & 0xff;
                    __m256i places = _mm256_cvtepi8_epi32(_mm_cvtsi64_si128(static_cast<int64_t>(kPlaces.of[bits])));
                    __m256 v = _mm256_permutevar8x32_ps(load8(value), places);
                    v = _mm256_andnot_ps(_mm256_castsi256_ps(_mm256_srai_epi32(places, 31)), v);
                    value += __builtin_popcount(bits);
                    for (int t = 0; t < T; ++t) {
                        const float* in = reinterpret_cast<const float*>(x.data + t * x.stride) + c;
                        sums[r][t] = _mm256_fmadd_ps(v, _mm256_loadu_ps(in), sums[r][t]);
                    }
                }
            }
        for (int r = 0; r < kGroupRows && g * kGroupRows + r < w.rows; ++r)
            for (int t = 0; t < T; ++t) {
                int64_t row = g * kGroupRows + r;
                float sum = total(sums[r][t]);
                out.y[t * out.stride + row] = w.kind == kInt8 ? sum * w.scales[row] : sum;
            }
    }
}

template <class Value>
void groups(const Bitmask& w, const Prepared& x, int64_t first, int64_t last, Output out) {
    static const Groups by_tokens[] = {some<Value, 1>, some<Value, 2>, some<Value, 3>, some<Value, 4>};
    by_tokens[x.tokens - 1](w, x, first, last, out);
}

SS_TARGET_END

const BitmaskKernel kKernels[] = {
    {prepare_plain, groups<float>, sizeof(float), 4},
    {prepare_plain, groups<uint16_t>, sizeof(float), 4},
    {prepare_plain, groups<int8_t>, sizeof(float), 4},
};

}  // namespace

const BitmaskKernel* avx2_bitmask(int32_t kind) { return kKernels + kind; }

}  // namespace sparsearch
#endif
