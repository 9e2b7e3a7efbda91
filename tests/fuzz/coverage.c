// Coverage of Python code under a sanitizer of GCC's, to be loaded before its runtime.
//
// Atheris, loaded as a module, reports what Python code was run by calling functions of libFuzzer's that are linked
// into it. The dynamic linker finds those of the sanitizer's runtime first, which do nothing. So these come before, and
// hand each call on to Atheris's own.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int find(struct dl_phdr_info* info, size_t size, void* handle) {
    (void)size;
    if (strstr(info->dlpi_name, "atheris/core_with_libfuzzer") == NULL) return 0;
    *(void**)handle = dlopen(info->dlpi_name, RTLD_LAZY | RTLD_NOLOAD);
    return 1;
}

static void* of_atheris(const char* name) {
    static void* handle;
    if (handle == NULL) dl_iterate_phdr(find, &handle);
    void* function = handle == NULL ? NULL : dlsym(handle, name);
    if (function == NULL) {
        fprintf(stderr, "coverage.c: Atheris has no %s\n", name);
        abort();
    }
    return function;
}

#define FORWARD(name, type)                                           \
    void name(type a, type b) {                                       \
        static void (*function)(type, type);                          \
        if (function == NULL) *(void**)&function = of_atheris(#name); \
        function(a, b);                                               \
    }

FORWARD(__sanitizer_cov_8bit_counters_init, uint8_t*)
FORWARD(__sanitizer_cov_pcs_init, const uintptr_t*)
FORWARD(__sanitizer_cov_trace_cmp1, uint8_t)
FORWARD(__sanitizer_cov_trace_cmp2, uint16_t)
FORWARD(__sanitizer_cov_trace_cmp4, uint32_t)
FORWARD(__sanitizer_cov_trace_cmp8, uint64_t)
FORWARD(__sanitizer_cov_trace_const_cmp1, uint8_t)
FORWARD(__sanitizer_cov_trace_const_cmp2, uint16_t)
FORWARD(__sanitizer_cov_trace_const_cmp4, uint32_t)
FORWARD(__sanitizer_cov_trace_const_cmp8, uint64_t)
