#!/bin/busybox sh
# shellcheck shell=dash
# The guest's first process (run.sh puts it there): makes the machine usable, runs the program with the kernel's remaining arguments, says how it
# ended, and turns the machine off.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root
ln -s /bin/modprobe /sbin/modprobe # where the kernel looks for it
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
stty -F /dev/ttyS1 raw # a line's end as it is
vm "$@" </dev/null >/dev/ttyS1 2>&1
echo "bench-vm: status $?" >/dev/ttyS1
sync
poweroff -f
