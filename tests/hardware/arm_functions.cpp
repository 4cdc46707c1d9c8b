// The program that test_hardware_arm.py emulates: hands over where the library's functions are, after the start of
// the C library has made them callable.
#include <unistd.h>

extern "C" {
int sparsearch_best_level();
void sparsearch_use_level(int);
void sparsearch_bitmask();
void sparsearch_bitmask_rows();
void sparsearch_csr16();
}

int main() {
    const void* functions[] = {
        reinterpret_cast<const void*>(sparsearch_best_level),   reinterpret_cast<const void*>(sparsearch_use_level),
        reinterpret_cast<const void*>(sparsearch_bitmask),      reinterpret_cast<const void*>(sparsearch_bitmask_rows),
        reinterpret_cast<const void*>(sparsearch_csr16),
    };
    return write(1, functions, sizeof functions) != sizeof functions;
}
