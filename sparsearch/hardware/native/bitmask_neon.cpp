// Bit masks with NEON, the instructions that every 64-bit ARM processor has: packed values are brought to their
// columns by a table lookup in a register, chosen by the mask bits, then widened to float32.
#include "kernels.h"

#ifdef SS_NEON
#include <arm_neon.h>

#include "places.h"

namespace sparsearch {
namespace {

constexpr Places<4, 4> kPlaces32;
constexpr Places<8, 2> kPlaces16;
constexpr Places<8, 1> kPlaces8;

constexpr int kTokens = 8;
constexpr int kTogether = 8;  // columns
constexpr uint64_t kEveryByte = 0x0101010101010101;
constexpr uint64_t kLowerHalves = 0x0f * kEveryByte;

struct Eight {
    float32x4_t half[2];
};

// How many bits each byte has.
inline uint64_t counts(uint64_t bits) { return vget_lane_u64(vreinterpret_u64_u8(vcnt_u8(vcreate_u8(bits))), 0); }

inline float32x4_t spread4(const float* p, unsigned bits) {
    return vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(vld1q_f32(p)), vld1q_u8(kPlaces32.of[bits])));
}

// Eight columns from the values at p on: those of the set bits, or all; `lower` are in the first four columns.
template <bool kFull>
inline Eight spread(const float* p, unsigned bits, int64_t lower) {
    return {{spread4(p, bits & 15), spread4(p + lower, bits >> 4)}};
}

template <bool kFull>
inline uint16x8_t spread16(const void* p, unsigned bits) {
    uint16x8_t packed = vld1q_u16(static_cast<const uint16_t*>(p));
    if (kFull) return packed;
    return vreinterpretq_u16_u8(vqtbl1q_u8(vreinterpretq_u8_u16(packed), vld1q_u8(kPlaces16.of[bits])));
}

template <bool kFull>
inline Eight spread(const Bfloat16* p, unsigned bits, int64_t) {
    uint16x8_t v = spread16<kFull>(p, bits);
    return {{vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(v), 16)), vreinterpretq_f32_u32(vshll_high_n_u16(v, 16))}};
}

template <bool kFull>
inline Eight spread(const Float16* p, unsigned bits, int64_t) {
    float16x8_t v = vreinterpretq_f16_u16(spread16<kFull>(p, bits));
    return {{vcvt_f32_f16(vget_low_f16(v)), vcvt_high_f32_f16(v)}};
}

template <bool kFull>
inline Eight spread(const int8_t* p, unsigned bits, int64_t) {
    uint8x16_t packed = vcombine_u8(vreinterpret_u8_s8(vld1_s8(p)), vdup_n_u8(0));
    int16x8_t v = vmovl_s8(vreinterpret_s8_u8(vqtbl1_u8(packed, vld1_u8(kPlaces8.of[bits]))));
    return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(v))), vcvtq_f32_s32(vmovl_high_s16(v))}};
}

// The next block of a row. Where each eight columns begin is counted for all of them at once: one after the other,
// every load would wait for the counts before it.
template <class Value, bool kFull>
class Block {
  public:
    Block(uint64_t mask, const Value* value)
        : value_(value), mask_(mask), lower_(counts(mask & kLowerHalves)), ends_(counts(mask) * kEveryByte) {}

    Eight columns(int64_t first) const {
        int64_t begin = kFull ? first : byte(ends_ << 8, first);
        return spread<kFull>(value_ + begin, static_cast<unsigned>(byte(mask_, first)), byte(lower_, first));
    }

    const Value* end() const { return value_ + (kFull ? kBlock : byte(ends_, 56)); }

  private:
    static int64_t byte(uint64_t of, int64_t bit) { return static_cast<int64_t>(of >> bit & 0xff); }

    const Value* value_;
    uint64_t mask_;
    // Byte i: how many values are in the first four of the eight columns, and in all columns up to their end.
    uint64_t lower_, ends_;
};

// Two chains of additions for each row and token, as long as they fit the registers.
constexpr int chains(int tokens) { return tokens <= 4 ? 2 : 1; }

template <int N>
inline float total(const float32x4_t* sums) {
    float32x4_t sum = sums[0];
    for (int i = 1; i < N; ++i) sum = vaddq_f32(sum, sums[i]);
    return vaddvq_f32(sum);
}

template <class Value, bool kFull, int T>
void some(const Bitmask& w, const Prepared& x, int64_t first, int64_t last, Output out) {
    constexpr int kChains = chains(T);
    int64_t blocks = padded(w.columns) / kBlock;
    for (int64_t g = first; g < last; ++g) {
        const Value* value = values_of<Value, kFull>(w, g);
        float32x4_t sums[kGroupRows][T][kChains];
        for (int r = 0; r < kGroupRows; ++r)
            for (int t = 0; t < T; ++t)
                for (int i = 0; i < kChains; ++i) sums[r][t][i] = vdupq_n_f32(0);
        for (int64_t b = 0; b < blocks; ++b) {
            int64_t pair = (g * blocks + b) * kGroupRows;
            Block<Value, kFull> upper(kFull ? 0 : w.masks[pair], value);
            Block<Value, kFull> lower(kFull ? 0 : w.masks[pair + 1], upper.end());
            value = lower.end();
            for (int64_t c = 0; c < kBlock; c += kTogether) {
                Eight v[kGroupRows] = {upper.columns(c), lower.columns(c)};
                for (int t = 0; t < T; ++t) {
                    const float* in = reinterpret_cast<const float*>(x.data + t * x.stride) + b * kBlock + c;
                    for (int i = 0; i < 2; ++i) {
                        float32x4_t inputs = vld1q_f32(in + 4 * i);
                        for (int r = 0; r < kGroupRows; ++r)
                            sums[r][t][i % kChains] = vfmaq_f32(sums[r][t][i % kChains], v[r].half[i], inputs);
                    }
                }
            }
        }
        for (int r = 0; r < kGroupRows && g * kGroupRows + r < w.rows; ++r)
            for (int t = 0; t < T; ++t) {
                int64_t row = g * kGroupRows + r;
                float sum = total<kChains>(sums[r][t]);
                out.y[t * out.stride + row] = w.kind == kInt8 ? sum * w.scales[row] : sum;
            }
    }
}

template <class Value, bool kFull>
const Value* store_block(uint64_t mask, const Value* value, float* block) {
    Block<Value, kFull> next(mask, value);
    for (int64_t c = 0; c < kBlock; c += kTogether) {
        Eight v = next.columns(c);
        vst1q_f32(block + c, v.half[0]);
        vst1q_f32(block + c + 4, v.half[1]);
    }
    return next.end();
}

template <class Value, bool kFull>
void groups(const Bitmask& w, const Prepared& x, int64_t first, int64_t last, Output out) {
    static const Groups by_tokens[kTokens] = {
        some<Value, kFull, 1>, some<Value, kFull, 2>, some<Value, kFull, 3>, some<Value, kFull, 4>,
        some<Value, kFull, 5>, some<Value, kFull, 6>, some<Value, kFull, 7>, some<Value, kFull, 8>,
    };
    by_tokens[x.tokens - 1](w, x, first, last, out);
}

#include "bitmask_kinds.inc"

}  // namespace

const BitmaskKernel* neon_bitmask(int32_t kind) { return kKernels + kind; }
Widen neon_widen(int32_t kind) { return kWidens[kind]; }

}  // namespace sparsearch
#endif
