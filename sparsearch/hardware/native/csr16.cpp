// Compressed rows with 16-bit columns, for many tokens: the same loop for every instruction set, written with the
// compiler's vector types. The portable form has NEON's registers, and compilers turn it into NEON instructions.
#include "kernels.h"

namespace sparsearch {
namespace portable {
#define SS_LANES 4
#include "csr16_rows.inc"
#undef SS_LANES
const Csr16Kernel kKernel = {rows<2>, rows<4>, rows<8>, rows<16>};
}  // namespace portable

const Csr16Kernel* portable_csr16() { return &portable::kKernel; }

#ifdef SS_X86
namespace avx2 {
SS_TARGET_BEGIN("avx2,fma")
#define SS_LANES 8
#include "csr16_rows.inc"
#undef SS_LANES
SS_TARGET_END
const Csr16Kernel kKernel = {rows<1>, rows<2>, rows<4>, rows<8>};
}  // namespace avx2

namespace avx512 {
SS_TARGET_BEGIN("avx512f,avx512vl,fma")
#define SS_LANES 16
#include "csr16_rows.inc"
#undef SS_LANES
SS_TARGET_END
const Csr16Kernel kKernel = {avx2::rows<1>, rows<1>, rows<2>, rows<4>};
}  // namespace avx512

const Csr16Kernel* avx2_csr16() { return &avx2::kKernel; }
const Csr16Kernel* avx512_csr16() { return &avx512::kKernel; }
#endif

}  // namespace sparsearch
