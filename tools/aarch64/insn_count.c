// A QEMU plugin that counts the instructions a program executes and writes their number to a file:
//
//   qemu-aarch64 -plugin ./insn_count.so,out=FILE PROGRAM
//
// The last line is the count of the whole run. Before it comes one for each time that the program called getppid, which
// nothing here needs for what it is: a program calls it to mark a place, and can read the line right away. Of a program
// with several threads there is no count, as what they add to it at the same time can be lost: a line says so instead.
//
// Distributions ship no qemu-plugin.h; what follows declares the part of its version 1 (QEMU 4.2 to 8.2) used here.
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_info_t;
struct qemu_plugin_tb;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };

void qemu_plugin_register_vcpu_init_cb(qemu_plugin_id_t id, void (*started)(qemu_plugin_id_t, unsigned vcpu));
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                           void (*translated)(qemu_plugin_id_t, struct qemu_plugin_tb*));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb* tb);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb* tb, enum qemu_plugin_op op, void* counter,
                                              uint64_t value);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t id,
                                          void (*called)(qemu_plugin_id_t, unsigned vcpu, int64_t number, uint64_t,
                                                         uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                                                         uint64_t));
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*at_exit)(qemu_plugin_id_t, void*), void* user_data);

#define EXPORT __attribute__((visibility("default")))

EXPORT int qemu_plugin_version = 1;
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t* info, int argc, char** argv);

enum { kGetppid = 173 };    // of AArch64

static uint64_t executed;
static unsigned threads;
static FILE* out;

static void count_thread(qemu_plugin_id_t id, unsigned vcpu) {
    (void)id;
    (void)vcpu;
    ++threads;
}

// A block that is left early, by a fault, would be counted whole; the programs counted here do not fault.
static void count_block(qemu_plugin_id_t id, struct qemu_plugin_tb* tb) {
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &executed, qemu_plugin_tb_n_insns(tb));
}

static void write_count(void) {
    if (threads == 1) {
        fprintf(out, "%" PRIu64 "\n", executed);
    } else {
        fprintf(out, "%u threads\n", threads);
    }
    fflush(out);
}

static void write_mark(qemu_plugin_id_t id, unsigned vcpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3,
                       uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
    (void)id, (void)vcpu, (void)a1, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number == kGetppid) write_count();
}

static void write_last(qemu_plugin_id_t id, void* user_data) {
    (void)id;
    (void)user_data;
    write_count();
    fclose(out);
}

int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t* info, int argc, char** argv) {
    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4) != 0 || (out = fopen(argv[0] + 4, "w")) == NULL) {
        fprintf(stderr, "insn_count: expected one argument, out=FILE, a file that can be written\n");
        return 1;
    }
    qemu_plugin_register_vcpu_init_cb(id, count_thread);
    qemu_plugin_register_vcpu_tb_trans_cb(id, count_block);
    qemu_plugin_register_vcpu_syscall_cb(id, write_mark);
    qemu_plugin_register_atexit_cb(id, write_last, NULL);
    return 0;
}
