#include "load/model_axes.h"

#include <algorithm>
#include <exception>
#include <optional>

#include "load/fields.h"

namespace fusedcell {
namespace {

using json::Kind;
using json::Value;

constexpr std::size_t kMostAxes = 30;    // NumPy 1 has 32, and streams add one for time

bool has(const std::vector<std::int64_t>& axes, std::int64_t axis) {
    return std::find(axes.begin(), axes.end(), axis) != axes.end();
}

std::vector<std::int64_t> axes_of(const Value& value, std::int64_t size, std::string_view label) {
    if (value.kind() != Kind::kArray) refuse({label, ": expected a list, got ", value.repr()});
    std::vector<std::int64_t> axes;
    std::int64_t product = 1;
    for (Value::Items left = value.items(); const std::optional<Value> item = left.next();) {
        if (axes.size() == kMostAxes) refuse({label, ": expected at most ", std::to_string(kMostAxes)});
        if (item->kind() != Kind::kString) {
            axes.push_back(checked_integer(*item, 1, size, label));
            product = std::min(product * axes.back(), size + 1);    // which is as wrong as any more
            continue;
        }
        const std::string name = item->string();
        if (name != "batch" && name != "time") {
            refuse({label, ": expected 'batch', 'time' or a number of features, got ", item->repr()});
        }
        const std::int64_t axis = name == "batch" ? kBatchAxis : kTimeAxis;
        if (has(axes, axis)) refuse({label, ": '", name, "' comes twice"});
        axes.push_back(axis);
    }
    if (product == size) return axes;
    refuse({label, ": expected numbers whose product is the size of a row, ", std::to_string(size), ", got ",
            value.repr()});
}

void check_outputs(const ModelAxes& axes, const Network& model, bool inputs_have_time) {
    for (std::size_t o = 0; o < model.outputs().size(); ++o) {
        const std::string& name = model.outputs()[o].name;
        const auto given = axes.find(name);
        const bool has_time = given != axes.end() ? has(given->second, kTimeAxis) : inputs_have_time;
        if (model.is_pooled(o)) {
            if (given == axes.end() || !has_time) continue;
            refuse({name, ".axes: expected no 'time', as this is one answer of a whole sequence"});
        }
        if (has_time) continue;
        if (inputs_have_time) refuse({name, ".axes: expected 'time', as an input has it"});
        const std::int64_t rows = model.rows_out(1)[o];
        if (rows != 1) {
            refuse({name, ".axes: expected 'time', as a call, whose inputs have none, gives ", std::to_string(rows),
                    " rows"});
        }
    }
    if (inputs_have_time || !model.why_no_streams().empty() || model.hop_in() == 1) return;
    refuse({"axes: expected 'time' in those of an input, as streams take ", std::to_string(model.hop_in()),
            " rows at a time"});
}

}    // namespace

ModelAxes read_axes(const Value& value, const Network& model) {
    if (value.kind() != Kind::kObject) refuse({"axes: expected an object, got ", value.repr()});
    std::map<std::string, std::int64_t> sizes;
    for (const ModelInput& input : model.inputs()) sizes[input.name] = input.size;
    for (std::size_t o = 0; o < model.outputs().size(); ++o) sizes[model.outputs()[o].name] = model.output_size(o);
    ModelAxes axes;
    for (Value::Members members = value.members(); const std::optional<json::Member> member = members.next();) {
        const auto size = sizes.find(member->name);
        if (size == sizes.end()) refuse({"axes: '", member->name, "' is neither an input nor an output"});
        if (axes.count(member->name) == 1) refuse({"axes: '", member->name, "' comes twice"});
        axes[member->name] = axes_of(member->value, size->second, member->name + ".axes");
    }
    const auto has_time = [&](const ModelInput& input) {
        const auto given = axes.find(input.name);
        return given == axes.end() || has(given->second, kTimeAxis);
    };
    try {
        check_outputs(axes, model, std::any_of(model.inputs().begin(), model.inputs().end(), has_time));
    } catch (const std::invalid_argument& error) {
        refuse({"axes: no input has 'time', and of one row ", error.what()});
    }
    return axes;
}

}    // namespace fusedcell
