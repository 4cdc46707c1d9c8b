// What the files of the native library share: the packed weights, their inputs, and one table of functions per
// instruction set. The library is plain C at its border and knows neither Python nor torch.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace sparsearch {

// Weights as bit mask and non-zeros. Two rows make a group; a group runs over its blocks of 64 columns, a block over
// its rows: one mask each (bit c = column c of the block is stored), and the values of its set bits in order.
// Rows and columns are padded with empty masks; 64 readable bytes follow the last value.
constexpr int64_t kGroupRows = 2;
constexpr int64_t kBlock = 64;
constexpr int64_t kMostTokens = 8;  // of one pass over a group; more tokens are more passes, over cached values

// The full kinds store every weight, those of the padding as zeros, and have neither masks nor offsets.
enum Kind : int32_t {
    kFloat32 = 0,
    kBfloat16 = 1,
    kInt8 = 2,
    kFloat16 = 3,
    kFullBfloat16 = 4,
    kFullFloat16 = 5,
};

// The types of values that C++ has no name for.
struct Bfloat16 {
    uint16_t bits;
};
struct Float16 {
    uint16_t bits;
};

struct Bitmask {
    int64_t rows, columns;
    const uint64_t* masks;   // [groups, blocks, 2]
    const int64_t* offsets;  // [groups]: first value of a group, counted in values
    const void* values;
    const float* scales;  // [rows], int8 alone: value = scale * stored
    const int32_t* sums;  // [rows], int8 alone: sum of the stored values
    int32_t kind;
    int32_t finite;  // no stored value is infinite or NaN
};

// Compressed rows with 16-bit columns. Rows in blocks of 64, columns in chunks: the non-zeros of a row in a chunk lie
// together, rows of a block after each other, then the next chunk.
constexpr int64_t kRowBlock = 64;

struct Csr16 {
    int64_t rows, columns, chunks;
    const int32_t* starts;  // [row blocks, chunks, 64] and the end
    const uint16_t* indices;
    const float* values;
};

// One token chunk of inputs, in the order that a kernel reads it; `stride` bytes from token to token.
struct Prepared {
    const unsigned char* data;
    int64_t stride;
    int64_t tokens;  // at most the kernel's
    const float* scales;  // [tokens], fixed point alone
};

struct Output {
    float* y;  // [tokens, rows]
    int64_t stride;
};

// x [tokens, columns] into `to`, padded with zeros to whole blocks; `scales` [tokens] for those that use them.
typedef void (*Prepare)(const float* x, int64_t columns, int64_t tokens, unsigned char* to, float* scales);
typedef void (*Groups)(const Bitmask& w, const Prepared& x, int64_t first, int64_t last, Output out);

// Groups as dense rows: to [rows, columns], which begins with the first row of the group `first`.
typedef void (*Widen)(const Bitmask& w, int64_t first, int64_t last, float* to);
// The same for bfloat16 values as they are.
typedef void (*Spread)(const Bitmask& w, int64_t first, int64_t last, Bfloat16* to);

struct BitmaskKernel {
    Prepare prepare;
    Groups groups;
    int64_t bytes_per_column;  // of a prepared token
    int64_t most_tokens;
    int64_t groups_together;  // that it is best given a multiple of
};

// xt [columns, tile]: `tile` tokens side by side; yt [64, tile].
typedef void (*Rows)(const Csr16& w, const float* xt, int64_t row_block, float* yt);

struct Csr16Kernel {
    Rows rows8, rows16, rows32, rows64;
};

const BitmaskKernel* portable_bitmask(int32_t kind);
const BitmaskKernel* neon_bitmask(int32_t kind);
const BitmaskKernel* avx2_bitmask(int32_t kind);
const BitmaskKernel* avx512_bitmask(int32_t kind, bool bfloat16_instructions);
const BitmaskKernel* avx512_int8();
const BitmaskKernel* avx512_dot(bool full);
Spread avx512_spread(bool full);
bool has_amx();
const BitmaskKernel* amx_bitmask(bool full, bool bfloat16_inputs);
Widen portable_widen(int32_t kind);
Widen neon_widen(int32_t kind);
Widen avx2_widen(int32_t kind);
Widen avx512_widen(int32_t kind);
const Csr16Kernel* portable_csr16();
const Csr16Kernel* avx2_csr16();
const Csr16Kernel* avx512_csr16();

void prepare_plain(const float* x, int64_t columns, int64_t tokens, unsigned char* to, float* scales);

// The values of block `b` of a row to their place in what `Widen` writes; not those of the padding.
void put_block(const Bitmask& w, int64_t row, int64_t b, const float* block, int64_t first, float* to);

inline int64_t at_most(int64_t value, int64_t limit) { return value < limit ? value : limit; }

inline int64_t padded(int64_t columns) { return (columns + kBlock - 1) / kBlock * kBlock; }

// Where the values of a group begin.
template <class Value, bool kFull>
const Value* values_of(const Bitmask& w, int64_t group) {
    int64_t offset = kFull ? group * kGroupRows * padded(w.columns) : w.offsets[group];
    return static_cast<const Value*>(w.values) + offset;
}

// Calls item(context, i) once for every i below `items`, on up to `threads` threads.
void parallel(int threads, int64_t items, void (*item)(void*, int64_t), void* context);

}  // namespace sparsearch

// Compiles the functions between the two for instructions that the rest of the library may not use. Between them no
// inline function of a standard header may be called: the linker could keep this version of it for everyone.
#define SS_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define SS_TARGET_BEGIN(features) \
    SS_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define SS_TARGET_END SS_PRAGMA(clang attribute pop)
#else
#define SS_TARGET_BEGIN(features) SS_PRAGMA(GCC push_options) SS_PRAGMA(GCC target(features))
#define SS_TARGET_END SS_PRAGMA(GCC pop_options)
#endif
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define SS_X86 1
#if defined(__linux__) && (__GNUC__ >= 11 || (defined(__clang__) && __clang_major__ >= 12))
#define SS_AMX 1
#endif
#endif
#if defined(__aarch64__) && !defined(__AARCH64EB__)
#define SS_NEON 1
#endif
