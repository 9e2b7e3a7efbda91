# Cross-compile for AArch64 GNU/Linux with Debian's g++-aarch64-linux-gnu, and run what was built under QEMU.
set(_fc_name aarch64)
set(_fc_triple aarch64-linux-gnu)
set(_fc_qemu qemu-aarch64)
set(_fc_numpy site/numpy/_core/include)
include("${CMAKE_CURRENT_LIST_DIR}/emulated.cmake")
