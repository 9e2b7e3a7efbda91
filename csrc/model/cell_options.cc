#include "model/cell_options.h"

#include <cmath>
#include <limits>

namespace fusedcell {
namespace {

constexpr ActivationKind kSigmoid = ActivationKind::kSigmoid;
constexpr ActivationKind kTanh = ActivationKind::kTanh;

bool squashes(const Activation& activation) { return activation.kind == kTanh || activation.kind == kSigmoid; }

}    // namespace

int activations_of(CellKind kind) {
    switch (kind) {
        case CellKind::kLstm: return 3;
        case CellKind::kGruResetAfter:
        case CellKind::kGruResetBefore: return 2;
        case CellKind::kRnnTanh:
        case CellKind::kRnnRelu: return 1;
    }
    return 0;
}

CellOptions usual_options(CellKind kind) {
    CellOptions options{};
    options.clip = std::numeric_limits<float>::infinity();
    options.clip_before_h = true;
    switch (kind) {
        case CellKind::kRnnTanh: options.activations[0].kind = kTanh; break;
        case CellKind::kRnnRelu: options.activations[0].kind = ActivationKind::kRelu; break;
        case CellKind::kLstm:
        case CellKind::kGruResetAfter:
        case CellKind::kGruResetBefore:
            options.activations[0].kind = kSigmoid;
            options.activations[1].kind = kTanh;
            options.activations[2].kind = kTanh;
            break;
    }
    return options;
}

std::optional<CellKind> plain_kind(CellKind kind, const CellOptions& options) {
    if (!std::isinf(options.clip) || options.input_forget || options.peephole != nullptr) return std::nullopt;
    const auto fits = [&](CellKind candidate) {
        const CellOptions usual = usual_options(candidate);
        for (int i = 0; i < activations_of(candidate); ++i) {
            if (options.activations[i].kind != usual.activations[i].kind) return false;
        }
        return true;
    };
    if (fits(kind)) return kind;
    for (const CellKind other : {CellKind::kRnnTanh, CellKind::kRnnRelu}) {
        if (activations_of(kind) == 1 && fits(other)) return other;
    }
    return std::nullopt;
}

bool is_bounded(CellKind kind, const CellOptions& options) {
    switch (kind) {
        case CellKind::kRnnTanh:
        case CellKind::kRnnRelu: return squashes(options.activations[0]);
        case CellKind::kGruResetAfter:
        case CellKind::kGruResetBefore:
            return options.activations[0].kind == kSigmoid && squashes(options.activations[1]);
        case CellKind::kLstm: return squashes(options.activations[0]) && squashes(options.activations[2]);
    }
    return false;
}

}    // namespace fusedcell
