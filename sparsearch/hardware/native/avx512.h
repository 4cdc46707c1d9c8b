// What the AVX-512 kernels share. Included inside the target of each: every file compiles its own.
#pragma once

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

// Full rows are read as fast as lines come, masked ones more slowly: for those the second-level cache, which waits for
// more lines at once than the first, is filled from farther (a tenth faster at 60 % zeros; slower for full rows).
template <bool kFull>
inline void fetch_ahead(const void* p) {
    const char* at = static_cast<const char*>(p) + (kFull ? kAhead : 2 * kAhead);
    __builtin_prefetch(at, 0, kFull ? 3 : 2);
    __builtin_prefetch(at + 64, 0, kFull ? 3 : 2);
}

// Sums per token: enough chains of additions to keep the multipliers busy, and few enough for the registers.
constexpr int chains(int tokens) { return tokens <= 2 ? 4 : tokens <= 4 ? 2 : 1; }

template <int N>
inline float total(const __m512* sums) {
    __m512 sum = sums[0];
    for (int i = 1; i < N; ++i) sum = _mm512_add_ps(sum, sums[i]);
    return _mm512_reduce_add_ps(sum);
}

// Of 16 columns from the first of `left` on, those that there are.
inline __mmask16 inside(int64_t left) {
    return static_cast<__mmask16>(left >= 16 ? 0xffff : left <= 0 ? 0 : (1u << left) - 1);
}

// The next 64 columns of a row in two registers of 16-bit values: those of the set bits of its mask, or all.
template <bool kFull, class Value>
inline const Value* halves(uint64_t mask, const Value* p, __m512i* v) {
    if (kFull) {
        v[0] = _mm512_loadu_si512(p);
        v[1] = _mm512_loadu_si512(p + 32);
        return p + kBlock;
    }
    v[0] = _mm512_maskz_expand_epi16(static_cast<__mmask32>(mask), load(p));
    v[1] = _mm512_maskz_expand_epi16(upper(mask), load(p + __builtin_popcount(static_cast<uint32_t>(mask))));
    return p + __builtin_popcountll(mask);
}

#define SS_BY_TOKENS(name, format)                                                                        \
    void name(const Bitmask& w, const Prepared& x, int64_t first, int64_t last, Output out) {            \
        static const Groups by_tokens[] = {format(1), format(2), format(3), format(4),                    \
                                           format(5), format(6), format(7), format(8)};                   \
        by_tokens[x.tokens - 1](w, x, first, last, out);                                                  \
    }
