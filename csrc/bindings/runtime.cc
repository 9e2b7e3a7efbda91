// Tiers, CPU features, and the kernels that tests and benchmarks call by themselves.
#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/gil.h"
#include "bindings/options.h"
#include "bindings/weights.h"
#include "cpu/available.h"
#include "cpu/cores.h"
#include "cpu/dispatch.h"
#include "cpu/features.h"
#include "kernels/simd/float_mode.h"
#include "model/names.h"
#include "pack/aligned_buffer.h"

#define FUSEDCELL_STRING(name) #name
#define FUSEDCELL_EXPANDED_STRING(name) FUSEDCELL_STRING(name)

namespace fusedcell::bindings {
namespace {

const char* compiler_name() {
#if defined(__clang__)
    return "clang " FUSEDCELL_EXPANDED_STRING(__clang_major__) "." FUSEDCELL_EXPANDED_STRING(__clang_minor__);
#elif defined(__GNUC__)
    return "gcc " FUSEDCELL_EXPANDED_STRING(__GNUC__) "." FUSEDCELL_EXPANDED_STRING(__GNUC_MINOR__);
#elif defined(_MSC_VER)
    return "msvc " FUSEDCELL_EXPANDED_STRING(_MSC_VER);
#else
    return "unknown";
#endif
}

std::vector<std::string> isas() {
    std::vector<std::string> names;
    for (const KernelTable* tier : available_tiers()) names.emplace_back(tier->isa);
    return names;
}

std::vector<std::string> weight_types() {
    return {
#define FUSEDCELL_WEIGHT_TYPE(name, Weights) #name,
#include "kernels/weight_types.inc"
    };
}

std::vector<std::string> kernels() {
    std::vector<std::string> names = {
#define FUSEDCELL_GATE_KERNEL(name, Cell) #name,
#define FUSEDCELL_ACTIVATION_KERNEL(name) #name,
#define FUSEDCELL_ROW_KERNEL(name, Function, is_kept) #name,
#define FUSEDCELL_MAP_KERNEL(name, Function) #name,
#define FUSEDCELL_QUANTISE_KERNEL(name, Function, Weights) #name,
#define FUSEDCELL_LIST_KERNEL(name) #name,
#define FUSEDCELL_READ_KERNEL(name) #name,
#define FUSEDCELL_TRAINING_KERNEL(name, Type, Function) #name,
#include "kernels/kernels.inc"
    };
    for (const std::string& type : weight_types()) {
#define FUSEDCELL_MATRIX_KERNEL(name, Operation, Row) names.push_back(#name "_" + type);
#define FUSEDCELL_STEP_KERNEL(name, Operation) names.push_back(#name "_" + type);
#define FUSEDCELL_MULTIPLY_KERNEL(name) names.push_back(#name "_" + type);
#include "kernels/kernels.inc"
    }
    return names;
}

py::list kinds_of_cores() {
    py::list kinds;
    for (const CoreKind& kind : core_kinds()) {
        py::dict entry;
        entry["name"] = kind.name;
        entry["implementer"] = kind.implementer;
        entry["part"] = kind.part;
        entry["in_order"] = kind.in_order;
        entry["cpus"] = kind.cpus;
        entry["numbers"] = kind.numbers;
        kinds.append(entry);
    }
    return kinds;
}

py::object map(const std::string& kernel, py::handle x, const std::string& isa) {
    const KernelTable& table = select_tier(isa);
    const FloatArray input(x, "x");
    py::object output = new_array(input.shape());
    MapKernel function = nullptr;
#define FUSEDCELL_MAP_KERNEL(name, Function) \
    if (kernel == #name) function = table.name;
#include "kernels/kernels.inc"
    if (function == nullptr) throw py::value_error("kernel: there is no map kernel '" + kernel + "'");
    const ScopedFloatMode mode;
    function(input.data(), data_of(output), PyArray_SIZE(reinterpret_cast<PyArrayObject*>(output.ptr())));
    return output;
}

py::object activate(const std::string& name, py::handle x, double alpha, double beta, const std::string& isa) {
    const KernelTable& table = select_tier(isa);
    const std::optional<ActivationKind> kind = node_activation_from_name(name);
    if (!kind) throw py::value_error("name: there is no activation '" + name + "'");
    const Activation activation{*kind, nearest_float(alpha), nearest_float(beta)};
    const FloatArray input(x, "x");
    py::object output = new_array(input.shape());
    const ScopedFloatMode mode;
    table.activate(input.data(), data_of(output), PyArray_SIZE(input.array()), activation);
    return output;
}

py::object row_kernel(const std::string& kernel, py::handle x, py::handle weight, py::handle bias, float epsilon,
                      const std::string& isa) {
    const KernelTable& table = select_tier(isa);
    const FloatArray input(x, "x");
    if (input.ndim() != 2) throw_shape_error("x", "(parts, size)", to_text(input.shape()));
    std::optional<FloatArray> arrays[2];
    if (!weight.is_none()) arrays[0].emplace(weight, "weight");
    if (!bias.is_none()) arrays[1].emplace(bias, "bias");
    const auto data = [](const std::optional<FloatArray>& array) { return array ? array->data() : nullptr; };
    RowKernel function = nullptr;
#define FUSEDCELL_ROW_KERNEL(name, Function, is_kept) \
    if (kernel == #name) function = table.name;
#include "kernels/kernels.inc"
    if (function == nullptr) throw py::value_error("kernel: there is no row kernel '" + kernel + "'");
    py::object output = new_array(input.shape());
    std::fill_n(data_of(output), input.size(), 0.0F);
    const ScopedFloatMode mode;
    function(input.data(), data_of(output), {input.dim(0), input.dim(1)}, {data(arrays[0]), data(arrays[1]), epsilon});
    return output;
}

void check_at_least(const char* name, std::ptrdiff_t least, std::ptrdiff_t value) {
    if (value >= least) return;
    throw py::value_error(std::string(name) + ": expected at least " + std::to_string(least) + ", got " +
                          std::to_string(value));
}

// The least seconds that one of `repeats` calls takes.
template <class Call>
double least_seconds(int repeats, const Call& call) {
    double best = std::numeric_limits<double>::infinity();
    for (int i = 0; i < repeats; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        call();
        const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
        best = std::min(best, elapsed.count());
    }
    return best;
}

double read_seconds(std::ptrdiff_t nbytes, int repeats, const std::string& isa) {
    check_at_least("nbytes", 64, nbytes);
    check_at_least("repeats", 1, repeats);
    const KernelTable& table = select_tier(isa);
    const ScopedFloatMode mode;
    const std::ptrdiff_t size = nbytes / static_cast<std::ptrdiff_t>(sizeof(float));
    const AlignedBuffer buffer(static_cast<std::size_t>(size) * sizeof(float));
    const auto* data = reinterpret_cast<const float*>(buffer.data());
    volatile float sink = table.read(data, size);
    // Small buffers are read many times over, so that the clock's own resolution does not count.
    const std::ptrdiff_t passes = 1 + (std::ptrdiff_t{1} << 18) / nbytes;
    const double seconds = least_seconds(repeats, [&] {
        for (std::ptrdiff_t pass = 0; pass < passes; ++pass) sink = table.read(data, size);
    });
    static_cast<void>(sink);
    return seconds / static_cast<double>(passes);
}

double multiply_seconds(std::ptrdiff_t multiply_adds, int repeats, const std::string& dtype, const std::string& isa) {
    check_at_least("multiply_adds", 1, multiply_adds);
    check_at_least("repeats", 1, repeats);
    const KernelTable& table = select_tier(isa);
    const ScopedFloatMode mode;
    const MultiplyKernel kernel = kernels_for(table, checked_weight_type(dtype)).multiply;
    const std::ptrdiff_t rounds = 1 + (multiply_adds - 1) / kernel.multiply_adds;
    volatile float sink = kernel.run(1);
    const double seconds = least_seconds(repeats, [&] { sink = kernel.run(rounds); });
    static_cast<void>(sink);
    const double done = static_cast<double>(rounds) * static_cast<double>(kernel.multiply_adds);
    return seconds * (static_cast<double>(multiply_adds) / done);
}

double gate_seconds(const std::string& kernel, std::ptrdiff_t units, int repeats, const std::string& isa) {
    check_at_least("units", 1, units);
    check_at_least("repeats", 1, repeats);
    const KernelTable& table = select_tier(isa);
    GateKernel function = nullptr;
#define FUSEDCELL_GATE_KERNEL(name, Cell) \
    if (kernel == #name) function = table.name;
#include "kernels/kernels.inc"
    if (function == nullptr) throw py::value_error("kernel: there is no gate kernel '" + kernel + "'");
    constexpr std::ptrdiff_t kMostGates = 4;
    const std::ptrdiff_t panels = (units + table.lanes - 1) / table.lanes;
    const std::ptrdiff_t padded = panels * table.lanes;
    std::vector<float> room(static_cast<std::size_t>(padded * (2 * kMostGates + 5)), 0.5F);
    float* next = room.data();
    const auto take = [&next, padded](std::ptrdiff_t vectors) {
        float* const taken = next;
        next += vectors * padded;
        return taken;
    };
    const GateSums sums{take(kMostGates), 0, 0, panels, units};
    CellRow row{};
    row.projection = take(kMostGates);
    row.h = take(1);
    row.h_next = take(1);
    row.c = take(1);
    row.update = take(1);
    row.reset_h = take(1);
    const Activation tanh{ActivationKind::kTanh, 0.0F, 0.0F};
    const CellOptions options{{tanh, tanh, tanh}, std::numeric_limits<float>::infinity(), false, false, nullptr};
    const ScopedFloatMode mode;
    // A step's gates are over too soon for the clock.
    const std::ptrdiff_t passes = 1 + (std::ptrdiff_t{1} << 12) / padded;
    const double seconds = least_seconds(repeats, [&] {
        for (std::ptrdiff_t pass = 0; pass < passes; ++pass) function(&row, 1, sums, options);
    });
    return seconds / static_cast<double>(passes);
}

double chain_seconds(std::ptrdiff_t operations, int repeats) {
    check_at_least("operations", 1, operations);
    check_at_least("repeats", 1, repeats);
    // Without a closed form, so that compilers leave all of them. Unrolled, lest the loop itself take a cycle.
    constexpr std::ptrdiff_t kUnrolled = 16;
    const std::ptrdiff_t rounds = 1 + (operations - 1) / (2 * kUnrolled);
    volatile std::uint64_t source = 0x9e3779b97f4a7c15;
    const std::uint64_t term = source;
    std::uint64_t x = source;
    const double seconds = least_seconds(repeats, [&] {
        for (std::ptrdiff_t round = 0; round < rounds; ++round) {
            for (std::ptrdiff_t i = 0; i < kUnrolled; ++i) {
                x += term;
                x ^= term;
            }
        }
        source = x;
    });
    return seconds * (static_cast<double>(operations) / static_cast<double>(rounds * 2 * kUnrolled));
}

}    // namespace

void bind_runtime(py::module_& module) {
    module.def("isas", &isas, "Tiers that this machine runs, best first.");
    module.def("compiled_isas", &compiled_tiers, "Tiers that this build contains, best first.");
    module.def("int8_isas", &int8_tiers, "Tiers of this build that differ from another one in int8 alone.");
    module.def("cpu_features", &cpu_feature_names, "Features of this CPU that the operating system lets it use.");
    module.def("available_cpus", &available_cpus,
               "CPUs that this process may keep busy, and so the most threads of a call.");
    module.def("core_kinds", &kinds_of_cores,
               "Kinds of core that this process may run on, each with how many there are, and which.");
    module.def(
        "as_array",
        [](py::handle value, const std::string& name) { return to_array(value, name, "an array of floats"); },
        py::arg("value"), py::arg("name"),
        "Any array that NumPy makes of the value; TypeError that names it, or what its own code raises.");
    module.def("compiler", &compiler_name, "Compiler that built this module.");
    module.def("weight_types", &weight_types, "Types in which weights can be stored.");
    module.def("kernels", &kernels, "Names of all kernels that every tier has.");
    module.def(
        "resolve_isa", [](const std::string& isa) { return std::string(select_tier(isa).isa); }, py::arg("isa") = "",
        "The tier that a layer made now would use.");
    module.def("map", &map, py::arg("kernel"), py::arg("x"), py::arg("isa") = "",
               "Applies an activation kernel, such as 'tanh', to every element.");
    module.def("activate", &activate, py::arg("name"), py::arg("x"), py::arg("alpha") = 0.0, py::arg("beta") = 0.0,
               py::arg("isa") = "", "Applies an activation of cells or nodes, such as 'Elu', to every element.");
    module.def(
        "row_kernel", &row_kernel, py::arg("kernel"), py::arg("x"), py::arg("weight") = py::none(),
        py::arg("bias") = py::none(), py::arg("epsilon") = 0.0F, py::arg("isa") = "",
        "Applies a row kernel, such as 'softmax', to x (parts, size); what it does not fill of y is 0. Weight and "
        "bias are as large as the kernel says, which is not checked.");
    module.def("read_seconds", &read_seconds, py::arg("nbytes"), py::arg("repeats"), py::arg("isa") = "",
               py::call_guard<GilRelease>(),
               "Least seconds that one thread took to read a buffer of so many bytes that it had just read.");
    module.def(
        "multiply_seconds", &multiply_seconds, py::arg("multiply_adds"), py::arg("repeats"),
        py::arg("dtype") = "float32", py::arg("isa") = "", py::call_guard<GilRelease>(),
        "Least seconds that one thread took for so many multiply-adds, as they are done with weights of a dtype.");
    module.def("gate_seconds", &gate_seconds, py::arg("kernel"), py::arg("units"), py::arg("repeats"),
               py::arg("isa") = "", py::call_guard<GilRelease>(),
               "Least seconds that one thread took for a step's gates, of one row whose sums are in memory.");
    module.def("chain_seconds", &chain_seconds, py::arg("operations"), py::arg("repeats"), py::call_guard<GilRelease>(),
               "Least seconds that one thread took for so many additions and exclusive ors of integers, each of which "
               "waits for the one before: a cycle each on the cores there are.");
}

}    // namespace fusedcell::bindings
