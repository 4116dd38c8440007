#!/bin/sh
# Boots a kernel with an initial RAM file system, without acceleration, and shows the serial console.
#
#   boot.sh ARCHIVE PARAMETERS [INIT [ARGUMENTS]...]
#
# PARAMETERS are the kernel's; CPU names the processor (default: max), KERNEL the image (default: the newest that is
# installed or was unpacked below target/kernel). Ends when the machine is off.
set -eu
archive=$1
parameters=$2
init=${3:-/loader}
shift 2
[ $# -eq 0 ] || shift
here=$(cd "$(dirname "$0")/../.." && pwd)
newest() { ls "$here"/target/kernel/boot/vmlinuz-* /boot/vmlinuz-* 2>/dev/null | sort -V | tail -n 1; }

exec qemu-system-x86_64 -accel tcg -cpu "${CPU:-max}" -m 512 -no-reboot -nodefaults -display none -serial stdio \
    -kernel "${KERNEL:-$(newest)}" -initrd "$archive" \
    -append "console=ttyS0 quiet loglevel=1 panic=-1 $parameters rdinit=$init -- $*"
