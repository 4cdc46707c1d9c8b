// Every native kernel on odd shapes, against sums in double: built with sanitizers by test_hardware_native.py. Arrays
// are exactly as long as the interface asks, so that reading or writing beyond them is found.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels.h"

extern "C" {
int sparsearch_best_level();
void sparsearch_use_level(int level);
int sparsearch_bitmask(const sparsearch::Bitmask* w, const float* x, int64_t tokens, float* y, int threads);
int sparsearch_csr16(const sparsearch::Csr16* w, const float* x, int64_t tokens, float* y, int threads);
}

using namespace sparsearch;

static uint64_t state = 1;
static double uniform() {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<double>(state >> 11) / 9007199254740992.0;
}

// A small whole number, which every type of value holds exactly.
static float whole() { return std::floor(uniform() * 200) - 100; }

struct Matrix {
    int64_t rows, columns;
    std::vector<float> values;
    float at(int64_t r, int64_t c) const { return r < rows && c < columns ? values[r * columns + c] : 0; }
};

template <class Value>
Value narrow(float value) { return static_cast<Value>(value); }
template <>
uint16_t narrow<uint16_t>(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return static_cast<uint16_t>(bits >> 16);
}

static int failures = 0;
static void compare(const char* what, const Matrix& w, const std::vector<float>& x, int64_t tokens,
                    const std::vector<float>& y, float scale) {
    for (int64_t t = 0; t < tokens; ++t)
        for (int64_t r = 0; r < w.rows; ++r) {
            double wanted = 0, size = 0;
            for (int64_t c = 0; c < w.columns; ++c) {
                wanted += static_cast<double>(w.at(r, c)) * x[t * w.columns + c] * scale;
                size += std::fabs(static_cast<double>(w.at(r, c)) * x[t * w.columns + c] * scale);
            }
            double error = std::fabs(y[t * w.rows + r] - wanted);
            if (!(error <= 5e-5 * size + 1e-5) && std::isfinite(wanted) && ++failures < 20)
                std::printf("%s %lldx%lld tokens %lld: (%lld, %lld) is %g, not %g\n", what, (long long)w.rows,
                            (long long)w.columns, (long long)tokens, (long long)t, (long long)r,
                            y[t * w.rows + r], wanted);
        }
}

template <class Value>
void bitmask(const Matrix& m, int32_t kind, const std::vector<float>& x, int64_t tokens, int threads, bool finite) {
    int64_t groups = (m.rows + 1) / 2, blocks = padded(m.columns) / kBlock;
    std::vector<uint64_t> masks;
    std::vector<int64_t> offsets;
    std::vector<Value> values;
    std::vector<float> scales(m.rows, 0.5f), y(tokens * m.rows, -1.0f);
    std::vector<int32_t> sums(m.rows, 0);
    for (int64_t g = 0; g < groups; ++g) {
        offsets.push_back(static_cast<int64_t>(values.size()));
        for (int64_t b = 0; b < blocks; ++b)
            for (int64_t r = 2 * g; r < 2 * g + 2; ++r) {
                masks.push_back(0);
                for (int64_t c = 0; c < kBlock; ++c)
                    if (float value = m.at(r, b * kBlock + c)) {
                        masks.back() |= uint64_t{1} << c;
                        values.push_back(narrow<Value>(value));
                        sums[r] += static_cast<int32_t>(value);
                    }
            }
    }
    values.resize(values.size() + 64 / sizeof(Value));
    values.shrink_to_fit();
    Bitmask w{m.rows, m.columns, masks.data(), offsets.data(), values.data(), scales.data(), sums.data(), kind, finite};
    if (sparsearch_bitmask(&w, x.data(), tokens, y.data(), threads)) ++failures;
    compare("bitmask", m, x, tokens, y, kind == kInt8 ? 0.5f : 1.0f);
}

static void csr16(const Matrix& m, const std::vector<float>& x, int64_t tokens, int threads, int64_t chunk) {
    int64_t chunks = (m.columns + chunk - 1) / chunk;
    std::vector<int32_t> starts;
    std::vector<uint16_t> indices;
    std::vector<float> values, y(tokens * m.rows, -1.0f);
    for (int64_t block = 0; block * kRowBlock < m.rows; ++block)
        for (int64_t k = 0; k < chunks; ++k)
            for (int64_t r = block * kRowBlock; r < (block + 1) * kRowBlock; ++r) {
                starts.push_back(static_cast<int32_t>(values.size()));
                for (int64_t c = k * chunk; c < (k + 1) * chunk; ++c)
                    if (float value = m.at(r, c)) {
                        indices.push_back(static_cast<uint16_t>(c));
                        values.push_back(value);
                    }
            }
    starts.push_back(static_cast<int32_t>(values.size()));
    Csr16 w{m.rows, m.columns, chunks, starts.data(), indices.data(), values.data()};
    if (sparsearch_csr16(&w, x.data(), tokens, y.data(), threads)) ++failures;
    compare("csr16", m, x, tokens, y, 1.0f);
}

int main() {
    const int64_t shapes[][2] = {{1, 1}, {2, 64}, {3, 5}, {37, 131}, {64, 128}, {65, 63}, {130, 257}};
    for (int level = 0; level <= sparsearch_best_level(); ++level) {
        sparsearch_use_level(level);
        for (auto& shape : shapes)
            for (double density : {0.0, 0.05, 0.5, 1.0}) {
                Matrix m{shape[0], shape[1], std::vector<float>(shape[0] * shape[1])};
                for (float& value : m.values) value = uniform() < density ? whole() : 0;
                for (int64_t tokens : {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 17, 65}) {
                    std::vector<float> x(tokens * m.columns);
                    for (float& value : x) value = static_cast<float>(uniform() * 2 - 1);
                    for (int threads : {1, 3})
                        for (bool finite : {true, false}) {
                            if (tokens && !finite) x[tokens / 2 * m.columns] = INFINITY;
                            bitmask<float>(m, kFloat32, x, tokens, threads, finite);
                            bitmask<uint16_t>(m, kBfloat16, x, tokens, threads, finite);
                            bitmask<int8_t>(m, kInt8, x, tokens, threads, finite);
                            csr16(m, x, tokens, threads, 128);
                            if (tokens) x[tokens / 2 * m.columns] = 0.5f;
                        }
                }
            }
    }
    std::printf("levels 0 to %d, %d failures\n", sparsearch_best_level(), failures);
    return failures != 0;
}
