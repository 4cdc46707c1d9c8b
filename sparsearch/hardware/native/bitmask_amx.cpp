// Bit masks of bfloat16 values on processors with AMX: a strip of rows is spread over a buffer, as by the other kernels
// for AVX-512, and multiplied from there in tiles (Fan et al. 2025, arXiv:2502.12444). Inputs are the sum of one or two
// bfloat16; what two leave of them is below 2^-16 of the input.
#include "kernels.h"

#ifdef SS_AMX
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace sparsearch {
namespace {

SS_TARGET_BEGIN("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bf16,amx-tile,amx-bf16,popcnt,bmi2")
#include "avx512.h"

constexpr int64_t kTile = 16;   // rows of weights, or tokens, of a tile
constexpr int64_t kDepth = 32;  // columns that it spans
constexpr int64_t kTileBytes = 1024;
constexpr int64_t kStrip = 16;               // groups: two tiles of rows
constexpr int64_t kSpread = 4 * kTileBytes;  // a block of a strip: for each 32 columns the tiles of both halves
constexpr int64_t kTokens = 2 * kTile;       // of a pass, whose sums stay in registers

struct alignas(64) TileShapes {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
};

// Registers 0 to 3 take the sums of both halves of the strip with both tiles of tokens, 4 and 5 the weights, 6 and 7
// the inputs.
void set_shapes(int64_t tokens0, int64_t tokens1) {
    TileShapes shapes = {};
    shapes.palette = 1;
    for (int i = 0; i < 8; ++i) {
        int64_t tokens = i == 2 || i == 3 || i == 7 ? tokens1 : tokens0;
        shapes.rows[i] = kTile;
        shapes.bytes[i] = static_cast<uint16_t>(i == 4 || i == 5 ? 2 * kDepth : 4 * (tokens ? tokens : 1));
    }
    _tile_loadconfig(&shapes);
}

// to[c * stride + r] = from[r * 16 + c], four by four where there are as many.
void transpose(const float* from, int64_t rows, int64_t columns, float* to, int64_t stride) {
    for (int64_t c = 0; c < columns; c += 4)
        for (int64_t r = 0; r < rows; r += 4) {
            const float* in = from + r * kTile + c;
            float* out = to + c * stride + r;
            if (r + 4 <= rows && c + 4 <= columns) {
                __m128 a = _mm_loadu_ps(in), b = _mm_loadu_ps(in + kTile);
                __m128 d = _mm_loadu_ps(in + 2 * kTile), e = _mm_loadu_ps(in + 3 * kTile);
                _MM_TRANSPOSE4_PS(a, b, d, e);
                _mm_storeu_ps(out, a);
                _mm_storeu_ps(out + stride, b);
                _mm_storeu_ps(out + 2 * stride, d);
                _mm_storeu_ps(out + 3 * stride, e);
                continue;
            }
            for (int64_t i = 0; i < 4 && r + i < rows; ++i)
                for (int64_t j = 0; j < 4 && c + j < columns; ++j) out[j * stride + i] = in[i * kTile + j];
        }
}

// For each tile of tokens and each 32 columns a tile for each part: [pairs of columns, tokens, 2].
template <int kParts>
void prepare_parts(const float* x, int64_t columns, int64_t tokens, unsigned char* to, float*) {
    int64_t width = padded(columns);
    for (int64_t first = 0; first < tokens; first += kTile) {
        int64_t count = at_most(tokens - first, kTile);
        for (int64_t c = 0; c < width; c += kDepth) {
            alignas(64) float parts[kParts][kTile * kTile];
            for (int64_t t = 0; t < count; ++t) {
                const float* in = x + (first + t) * columns + c;
                __m512 low = _mm512_maskz_loadu_ps(inside(columns - c), in);
                __m512 high = _mm512_maskz_loadu_ps(inside(columns - c - 16), in + 16);
                for (int part = 0; part < kParts; ++part) {
                    __m512i both = (__m512i)_mm512_cvtne2ps_pbh(high, low);
                    _mm512_store_si512(parts[part] + t * kTile, both);
                    if (part + 1 == kParts) break;
                    __m512i wide0 = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(both, 0));
                    __m512i wide1 = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(both, 1));
                    low = _mm512_sub_ps(low, _mm512_castsi512_ps(_mm512_slli_epi32(wide0, 16)));
                    high = _mm512_sub_ps(high, _mm512_castsi512_ps(_mm512_slli_epi32(wide1, 16)));
                }
            }
            for (int part = 0; part < kParts; ++part, to += 4 * kTile * count)
                transpose(parts[part], count, kTile, reinterpret_cast<float*>(to), count);
        }
    }
}

// A strip of groups on its way through its blocks, and memory after it, which is fetched meanwhile.
template <bool kFull>
struct Strip {
    const Bitmask& w;
    int64_t first, groups, blocks, lines;
    const Bfloat16* at[kStrip] = {};
    const char *values, *masks;

    Strip(const Bitmask& weight, int64_t g, int64_t count)
        : w(weight), first(g), groups(count), blocks(padded(weight.columns) / kBlock) {
        for (int64_t i = 0; i < groups; ++i) at[i] = values_of<Bfloat16, kFull>(w, g + i);
        // The next strip is about as long as this one, whose last group counts like the others.
        int64_t bytes = groups > 1 ? (at[groups - 1] - at[0]) * 2 / (groups - 1) * groups : 0;
        lines = bytes / 64 / blocks + 1;
        values = reinterpret_cast<const char*>(at[0]) + bytes;
        masks = kFull ? nullptr : reinterpret_cast<const char*>(w.masks + (g + groups) * blocks * kGroupRows);
    }

    // The next block of all rows to `to`; of groups that there are not nothing.
    void spread(int64_t b, unsigned char* to) {
        for (int64_t i = 0; i < lines; ++i, values += 64) __builtin_prefetch(values, 0, 2);
        constexpr int64_t kMaskBytes = kFull ? 0 : kStrip * kGroupRows * 8;
        for (int64_t i = 0; i < kMaskBytes; i += 64, masks += 64) __builtin_prefetch(masks, 0, 2);
        for (int64_t i = 0; i < groups; ++i)
            for (int64_t r = 0; r < kGroupRows; ++r, to += 64) {
                __m512i half[2];
                uint64_t mask = kFull ? 0 : w.masks[((first + i) * blocks + b) * kGroupRows + r];
                at[i] = halves<kFull>(mask, at[i], half);
                _mm512_store_si512(to, half[0]);
                _mm512_store_si512(to + 2 * kTileBytes, half[1]);
            }
    }
};

// Tokens of a pass in one tile or two, and where their inputs are.
template <int kParts>
struct Tokens {
    int64_t count[2];
    const unsigned char* inputs[2];

    explicit Tokens(const Prepared& x)
        : count{at_most(x.tokens, kTile), x.tokens - at_most(x.tokens, kTile)},
          inputs{x.data, x.data + count[0] * x.stride} {}

    // Inputs of 32 columns and one part.
    int64_t bytes(int tile) const { return 4 * kTile * count[tile]; }
};

// Adds products of a block, spread at `weights`, to the sums in the registers.
template <int kParts, bool kTwo>
void multiply(const unsigned char* weights, const Tokens<kParts>& tokens, int64_t block) {
    const unsigned char* in0 = tokens.inputs[0] + block * 2 * kParts * tokens.bytes(0);
    const unsigned char* in1 = tokens.inputs[1] + block * 2 * kParts * tokens.bytes(1);
    for (int half = 0; half < 2; ++half, weights += 2 * kTileBytes) {
        _tile_loadd(4, weights, 64);
        _tile_loadd(5, weights + kTileBytes, 64);
        for (int part = 0; part < kParts; ++part) {
            _tile_loadd(6, in0, 4 * tokens.count[0]);
            in0 += tokens.bytes(0);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 5, 6);
            if (!kTwo) continue;
            _tile_loadd(7, in1, 4 * tokens.count[1]);
            in1 += tokens.bytes(1);
            _tile_dpbf16ps(2, 4, 7);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
}

struct Sums {
    alignas(64) float of[2][2][kTile * kTile];  // [tiles of tokens] [halves of the strip] [rows, tokens]
};

// While a block is multiplied, the next is spread; a longer buffer would push what is read from the nearest cache.
template <int kParts, bool kFull, bool kTwo>
void multiply_strip(Strip<kFull>& strip, const Tokens<kParts>& tokens, unsigned char* buffer, Sums& sums) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    strip.spread(0, buffer);
    for (int64_t b = 0; b < strip.blocks; ++b) {
        if (b + 1 < strip.blocks) strip.spread(b + 1, buffer + (b + 1) % 2 * kSpread);
        multiply<kParts, kTwo>(buffer + b % 2 * kSpread, tokens, b);
    }
    _tile_stored(0, sums.of[0][0], 64);
    _tile_stored(1, sums.of[0][1], 64);
    if (!kTwo) return;
    _tile_stored(2, sums.of[1][0], 64);
    _tile_stored(3, sums.of[1][1], 64);
}

template <int kParts, bool kFull>
void tiles(const Bitmask& w, const Prepared& x, int64_t first, int64_t last, Output out) {
    alignas(64) unsigned char buffer[2 * kSpread];
    Sums sums;
    Tokens<kParts> tokens(x);
    set_shapes(tokens.count[0], tokens.count[1]);
    for (int64_t g = first; g < last; g += kStrip) {
        int64_t groups = at_most(last - g, kStrip);
        // Rows that there are not are multiplied too.
        if (groups < kStrip)
            for (int64_t i = 0; i < 2 * kSpread; i += 64) _mm512_store_si512(buffer + i, _mm512_setzero_si512());
        Strip<kFull> strip(w, g, groups);
        tokens.count[1] ? multiply_strip<kParts, kFull, true>(strip, tokens, buffer, sums)
                        : multiply_strip<kParts, kFull, false>(strip, tokens, buffer, sums);
        for (int tile = 0; tile < 2; ++tile)
            for (int half = 0; half < 2; ++half) {
                int64_t row = g * kGroupRows + half * kTile;
                transpose(sums.of[tile][half], at_most(w.rows - row, kTile), tokens.count[tile],
                          out.y + tile * kTile * out.stride + row, out.stride);
            }
    }
    _tile_release();
}

SS_TARGET_END

const BitmaskKernel kOnePart = {prepare_parts<1>, tiles<1, false>, 2, kTokens, kStrip};
const BitmaskKernel kTwoParts = {prepare_parts<2>, tiles<2, false>, 4, kTokens, kStrip};
const BitmaskKernel kFullOnePart = {prepare_parts<1>, tiles<1, true>, 2, kTokens, kStrip};
const BitmaskKernel kFullTwoParts = {prepare_parts<2>, tiles<2, true>, 4, kTokens, kStrip};

}  // namespace

bool has_amx() {
    unsigned a, b, c, features;
    constexpr unsigned kBoth = 1u << 22 | 1u << 24;  // bfloat16 products, tiles
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &features) || (features & kBoth) != kBoth) return false;
    // Linux hands the registers of tiles, 8 KiB, to those processes that ask for them.
    constexpr long kRequest = 0x1023, kTileData = 18;
    return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}

const BitmaskKernel* amx_bitmask(bool full, bool bfloat16_inputs) {
    if (full) return bfloat16_inputs ? &kFullOnePart : &kFullTwoParts;
    return bfloat16_inputs ? &kOnePart : &kTwoParts;
}

}  // namespace sparsearch
#endif
