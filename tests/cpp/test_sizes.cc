// Sizes that no memory has are refused as memory that is not there, whatever the width of an address.
#include "pack/sizes.h"

#include <cstdint>
#include <functional>
#include <new>

#include "check.h"
#include "cpu/dispatch.h"
#include "model/stream_pool.h"
#include "testing/random_stack.h"

namespace fusedcell::test {
namespace {

constexpr std::ptrdiff_t kLargest = PTRDIFF_MAX;

bool is_no_memory(const std::function<void()>& call) {
    try {
        call();
    } catch (const std::bad_alloc&) {
        return true;
    }
    return false;
}

void products_and_sums_that_fit_are_exact() {
    CHECK(product_of(6, 7) == 42);
    CHECK(product_of(2, 3, 5, 7) == 210);
    CHECK(product_of(kLargest, 1, 1) == kLargest);
    CHECK(product_of(kLargest, 0) == 0);
    CHECK(product_of(0, kLargest, kLargest) == 0);
    CHECK(product_of(kLargest / 2, 2) == kLargest - 1);
    CHECK(sum_of(kLargest - 5, 5) == kLargest);
    CHECK(sum_of(0, 0) == 0);
    CHECK(count_of<float>(3, 5) == 15);
    CHECK(count_of<float>(kLargest / 4) == static_cast<std::size_t>(kLargest / 4));
    CHECK(to_size(std::uint64_t{7}) == 7 && to_size(std::int64_t{0}) == 0);
    CHECK(to_size(static_cast<std::uint64_t>(kLargest)) == kLargest);
}

void products_and_sums_that_do_not_fit_are_no_memory() {
    CHECK(is_no_memory([] { product_of(kLargest / 2 + 1, 2); }));
    CHECK(is_no_memory([] { product_of(2, kLargest / 2 + 1); }));
    CHECK(is_no_memory([] { product_of(kLargest, kLargest); }));
    CHECK(is_no_memory([] { product_of(kLargest / 6, 2, 2, 2); }));
    CHECK(is_no_memory([] { sum_of(kLargest, 1); }));
    CHECK(is_no_memory([] { sum_of(1, kLargest); }));
    CHECK(is_no_memory([] { count_of<float>(kLargest / 4 + 1); }));
    CHECK(is_no_memory([] { count_of<RowState>(kLargest / 2); }));
    CHECK(is_no_memory([] { to_size(static_cast<std::uint64_t>(kLargest) + 1); }));
    CHECK(is_no_memory([] { to_size(UINT64_MAX); }));
}

void shares_are_even_however_large_the_whole() {
    CHECK(share_of(7, 0, 2) == 0 && share_of(7, 1, 2) == 3 && share_of(7, 2, 2) == 7);
    CHECK(share_of(3, 1, 4) == 0 && share_of(3, 2, 4) == 1 && share_of(3, 4, 4) == 3);
    constexpr std::ptrdiff_t kRows = std::ptrdiff_t{1} << 30;
    constexpr std::ptrdiff_t kParts = std::ptrdiff_t{1} << 23;
    CHECK(share_of(kRows, kParts - 1, kParts) == kRows - 128);
    CHECK(share_of(kRows, kParts, kParts) == kRows);
}

void states_and_room_for_runs_that_no_memory_has_are_refused() {
    for (const CellKind kind : kKinds) {
        for (const WeightType type : kWeightTypes) {
            const auto stack = random_stack({kind, 3, 5, 0, 2, 1}, *available_tiers().front(), type);
            // Each overflows, as a row has at least five floats; what would fit could also be there.
            for (const std::ptrdiff_t batch : {kLargest, kLargest / 2 + 1, kLargest / 5}) {
                CHECK(is_no_memory([&] { States(stack->shape(), batch); }));
                CHECK(is_no_memory([&] { StreamPool(stack, batch); }));
                Workspace workspace;
                CHECK(is_no_memory([&] { stack->reserve(1, batch, workspace); }));
                CHECK(is_no_memory([&] { stack->reserve(kLargest, batch, workspace); }));
            }
            Workspace workspace;
            stack->reserve(kLargest, 1, workspace);    // long runs are taken in pieces
        }
    }
}

void packed_weights_that_no_memory_has_are_refused() {
    const KernelTable& table = *available_tiers().front();
    for (const WeightType type : kWeightTypes) {
        const PanelShape shape(type, table, kernels_for(table, type).linear);
        CHECK(packed_size(shape, 1, 1) > 0);
        CHECK(is_no_memory([&] { packed_size(shape, kLargest / shape.panel_rows(), 8); }));
        CHECK(is_no_memory([&] { packed_size(shape, kLargest / shape.panel_rows() / 8, kLargest / 1024); }));
        CHECK(is_no_memory([&] { packed_weights_size(shape, kLargest / shape.panel_rows() / 8, kLargest / 1024); }));
    }
}

}    // namespace
}    // namespace fusedcell::test

int main() {
    using namespace fusedcell::test;
    products_and_sums_that_fit_are_exact();
    products_and_sums_that_do_not_fit_are_no_memory();
    shares_are_even_however_large_the_whole();
    states_and_room_for_runs_that_no_memory_has_are_refused();
    packed_weights_that_no_memory_has_are_refused();
}
