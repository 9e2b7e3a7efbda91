// A layer's file to a Stack, and what a model's file is read by too.
#pragma once

#include <cfenv>
#include <cstddef>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "fusedcell/fusedcell.h"
#include "load/description.h"
#include "load/safetensors.h"
#include "model/stack.h"

namespace fusedcell {

struct LoadedLayer {
    std::shared_ptr<Stack> stack;
    bool is_cell = false;
    bool batch_first = false;    // sequences are (B, T, ...)
    // What calls without a state start from, (L * D, rows, size); empty: zeros.
    std::vector<float> initial_h, initial_c;
    std::ptrdiff_t initial_rows = 0;
};

/// `isa` as for select_tier. Throws LoadError, which does not name the file, and std::bad_alloc.
LoadedLayer load_layer(const unsigned char* data, std::size_t size, const std::string& isa);

using TensorsByName = std::map<std::string, const Tensor*, std::less<>>;

/// Takes a tensor out of those that are left, null if it is not among them.
const Tensor* take(TensorsByName& tensors, std::string_view name);

WeightType weight_type_of(StoredType type, bool has_int16_inputs);

/// The metadata entry 'fusedcell'; throws LoadError where there is none.
const std::string& description_of(const Header& header);

/// The layer of these tensors. Throws LoadError or std::invalid_argument.
LoadedLayer make_layer(const Description& description, const std::vector<Tensor>& tensors, const KernelTable& kernels);

// Plug-ins are loaded by hosts that flush denormals to zero, and a file must not be judged by that.
class DefaultFloatEnvironment {
public:
    DefaultFloatEnvironment() {
        std::fegetenv(&saved_);
        std::fesetenv(FE_DFL_ENV);
    }
    ~DefaultFloatEnvironment() { std::fesetenv(&saved_); }
    DefaultFloatEnvironment(const DefaultFloatEnvironment&) = delete;
    DefaultFloatEnvironment& operator=(const DefaultFloatEnvironment&) = delete;

private:
    std::fenv_t saved_{};
};

/// What `load` returns. What it has to say against values is a LoadError then.
template <class Load>
auto in_default_environment(const Load& load) {
    const DefaultFloatEnvironment environment;
    try {
        return load();
    } catch (const std::invalid_argument& error) {
        throw LoadError(error.what());
    }
}

}    // namespace fusedcell
