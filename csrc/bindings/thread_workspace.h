// The memory in which this thread's calls work, one after another, so that few of them allocate.
#pragma once

#include <cstddef>
#include <vector>

#include "model/stack.h"

namespace fusedcell::bindings {

// Of one call, while which no Python code runs on the thread. What a large call needed is given back at its end.
class ThreadWorkspace {
public:
    ThreadWorkspace() = default;
    ~ThreadWorkspace() {
        constexpr std::size_t kKept = std::size_t{1} << 22;
        if (get().nbytes() > kKept) get() = {};
        if (bytes_of(state()) > kKept) state() = {};
        if (bytes_of(rows()) > kKept) rows() = {};
    }
    ThreadWorkspace(const ThreadWorkspace&) = delete;
    ThreadWorkspace& operator=(const ThreadWorkspace&) = delete;

    static Workspace& get() {
        thread_local Workspace workspace;
        return workspace;
    }
    /// h of a step, which the run updates in place.
    static std::vector<float>& state() {
        thread_local std::vector<float> h;
        return h;
    }
    /// Where the states of many streams lie.
    static std::vector<RowState>& rows() {
        thread_local std::vector<RowState> rows;
        return rows;
    }
};

}    // namespace fusedcell::bindings
