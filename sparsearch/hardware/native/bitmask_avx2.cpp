// Bit masks with AVX2: eight values at a time are widened to float32 and brought to their columns by a permutation
// that the eight mask bits choose from a table.
#include "kernels.h"

#ifdef SS_X86
#include <immintrin.h>

#include "places.h"

namespace sparsearch {
namespace {

constexpr Places<8, 1> kPlaces;
constexpr int kTokens = 4;

SS_TARGET_BEGIN("avx2,fma,f16c,popcnt")

inline __m256 load8(const float* p) { return _mm256_loadu_ps(p); }
inline __m256 load8(const Float16* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline __m256 load8(const Bfloat16* p) {
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

// The next eight columns of a row, and on to the values after them.
template <class Value, bool kFull>
inline __m256 expand(unsigned bits, const Value*& value) {
    __m256 v = load8(value);
    value += kFull ? 8 : __builtin_popcount(bits);
    if (kFull) return v;
    __m256i places = _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(kPlaces.of[bits])));
    v = _mm256_permutevar8x32_ps(v, places);
    return _mm256_andnot_ps(_mm256_castsi256_ps(_mm256_srai_epi32(places, 31)), v);
}

template <class Value, bool kFull, int T>
void some(const Bitmask& w, const Prepared& x, int64_t first, int64_t last, Output out) {
    int64_t blocks = padded(w.columns) / kBlock;
    for (int64_t g = first; g < last; ++g) {
        const Value* value = values_of<Value, kFull>(w, g);
        __m256 sums[kGroupRows][T];
        for (int r = 0; r < kGroupRows; ++r)
            for (int t = 0; t < T; ++t) sums[r][t] = _mm256_setzero_ps();
        for (int64_t b = 0; b < blocks; ++b)
            for (int r = 0; r < kGroupRows; ++r) {
                uint64_t mask = kFull ? 0 : w.masks[(g * blocks + b) * kGroupRows + r];
                for (int64_t c = b * kBlock; c < (b + 1) * kBlock; c += 8, mask >>= 8) {
                    __m256 v = expand<Value, kFull>(mask & 0xff, value);
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

template <class Value, bool kFull>
const Value* store_block(uint64_t mask, const Value* value, float* block) {
    for (int64_t c = 0; c < kBlock; c += 8, mask >>= 8)
        _mm256_storeu_ps(block + c, expand<Value, kFull>(mask & 0xff, value));
    return value;
}

template <class Value, bool kFull>
void groups(const Bitmask& w, const Prepared& x, int64_t first, int64_t last, Output out) {
    static const Groups by_tokens[kTokens] = {
        some<Value, kFull, 1>, some<Value, kFull, 2>, some<Value, kFull, 3>, some<Value, kFull, 4>,
    };
    by_tokens[x.tokens - 1](w, x, first, last, out);
}

#include "bitmask_kinds.inc"

SS_TARGET_END

}  // namespace

const BitmaskKernel* avx2_bitmask(int32_t kind) { return kKernels + kind; }
Widen avx2_widen(int32_t kind) { return kWidens[kind]; }

}  // namespace sparsearch
#endif
