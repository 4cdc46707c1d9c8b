// How packed values come to their columns by a lookup in a register: what AVX2 and NEON share.
#pragma once
#include <stdint.h>

namespace sparsearch {

// Entry m is for columns whose mask bits are m: of each byte of each column, which byte of the packed values goes
// there; 0x80, which lookups answer with zero, where the column's bit is not set.
template <int kColumns, int kBytes>
struct Places {
    uint8_t of[1 << kColumns][kColumns * kBytes];
    constexpr Places() : of() {
        for (int m = 0; m < 1 << kColumns; ++m) {
            int next = 0;
            for (int c = 0; c < kColumns; ++c) {
                bool stored = m >> c & 1;
                for (int b = 0; b < kBytes; ++b)
                    of[m][c * kBytes + b] = static_cast<uint8_t>(stored ? next * kBytes + b : 0x80);
                next += stored;
            }
        }
    }
};

}  // namespace sparsearch
