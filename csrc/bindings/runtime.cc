// Tiers, CPU features, and the kernels that tests and benchmarks call by themselves.
#include <pybind11/stl.h>

#include <chrono>
#include <limits>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/options.h"
#include "cpu/available.h"
#include "cpu/dispatch.h"
#include "cpu/features.h"
#include "kernels/simd/float_mode.h"
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
#define FUSEDCELL_MAP_KERNEL(name, Function) #name,
#define FUSEDCELL_QUANTISE_KERNEL(name) #name,
#define FUSEDCELL_READ_KERNEL(name) #name,
#include "kernels/kernels.inc"
    };
    for (const std::string& type : weight_types()) {
#define FUSEDCELL_MATRIX_KERNEL(name, Operation, Row) names.push_back(#name "_" + type);
#include "kernels/kernels.inc"
    }
    return names;
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
    const Activation activation = to_activation({name, alpha, beta});
    const FloatArray input(x, "x");
    py::object output = new_array(input.shape());
    const ScopedFloatMode mode;
    table.activate(input.data(), data_of(output), PyArray_SIZE(input.array()), activation);
    return output;
}

double read_seconds(std::ptrdiff_t nbytes, int repeats, const std::string& isa) {
    if (nbytes < 64) throw py::value_error("nbytes: expected at least 64, got " + std::to_string(nbytes));
    if (repeats < 1) throw py::value_error("repeats: expected at least 1, got " + std::to_string(repeats));
    const KernelTable& table = select_tier(isa);
    const std::ptrdiff_t size = nbytes / static_cast<std::ptrdiff_t>(sizeof(float));
    const AlignedBuffer buffer(static_cast<std::size_t>(size) * sizeof(float));
    const auto* data = reinterpret_cast<const float*>(buffer.data());
    volatile float sink = table.read(data, size);
    double best = std::numeric_limits<double>::infinity();
    for (int i = 0; i < repeats; ++i) {
        // Small buffers are read many times over, so that the clock's own resolution does not count.
        const std::ptrdiff_t passes = 1 + (std::ptrdiff_t{1} << 18) / nbytes;
        const auto begin = std::chrono::steady_clock::now();
        for (std::ptrdiff_t pass = 0; pass < passes; ++pass) sink = table.read(data, size);
        const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
        best = std::min(best, elapsed.count() / static_cast<double>(passes));
    }
    static_cast<void>(sink);
    return best;
}

}    // namespace

void bind_runtime(py::module_& module) {
    module.def("isas", &isas, "Tiers that this machine runs, best first.");
    module.def("compiled_isas", &compiled_tiers, "Tiers that this build contains, best first.");
    module.def("int8_isas", &int8_tiers, "Tiers of this build that differ from another one in int8 alone.");
    module.def("cpu_features", &cpu_feature_names, "Features of this CPU that the operating system lets it use.");
    module.def("available_cpus", &available_cpus,
               "CPUs that this process may keep busy, and so the most threads of a call.");
    module.def("compiler", &compiler_name, "Compiler that built this module.");
    module.def("weight_types", &weight_types, "Types in which weights can be stored.");
    module.def("kernels", &kernels, "Names of all kernels that every tier has.");
    module.def(
        "resolve_isa", [](const std::string& isa) { return std::string(select_tier(isa).isa); }, py::arg("isa") = "",
        "The tier that a layer made now would use.");
    module.def("map", &map, py::arg("kernel"), py::arg("x"), py::arg("isa") = "",
               "Applies an activation kernel, such as 'tanh', to every element.");
    module.def("activate", &activate, py::arg("name"), py::arg("x"), py::arg("alpha") = 0.0, py::arg("beta") = 0.0,
               py::arg("isa") = "", "Applies an activation of cells with options, such as 'Elu', to every element.");
    module.def("read_seconds", &read_seconds, py::arg("nbytes"), py::arg("repeats"), py::arg("isa") = "",
               py::call_guard<py::gil_scoped_release>(),
               "Least seconds that one thread took to read a buffer of so many bytes that it had just read.");
}

}    // namespace fusedcell::bindings
