# Cross-compile for 32-bit ARM (ARMv7, hard float) GNU/Linux with Debian's g++-arm-linux-gnueabihf, and run what was built
# under QEMU.
set(_fc_name armv7l)
set(_fc_triple arm-linux-gnueabihf)
set(_fc_qemu qemu-arm)
set(_fc_numpy "root/usr/lib/python3/dist-packages/numpy/*core/include")
include("${CMAKE_CURRENT_LIST_DIR}/emulated.cmake")
