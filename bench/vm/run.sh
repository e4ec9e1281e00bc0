#!/bin/bash
# weir beside real IPVS under the kernel's pktgen, in a QEMU guest with Debian's kernel: called by `make bench-vm`. See README.md beside this file.
#
#   run.sh [FLAGS]    flags of the guest's program (bench/vm); --help lists them
#
# The guest is a kernel out of its Debian package, which is unpacked and not installed, and a root in memory of our static programs and of this
# machine's ip, nft, ipvsadm and the like. It has no disk, no network, and no KVM. Everything lies below bin/vm/, where console.log has what
# the kernel said.
set -euo pipefail
cd "$(dirname "$0")/../.."

GO=${GO:-go}
limit=${VM_TIMEOUT:-1500} # seconds that the guest has
work=bin/vm
root=$work/root
programs=(bash ip ipvsadm nft ethtool taskset)

scripts/deps.sh qemu-system-x86 busybox-static cpio kmod ipvsadm nftables ethtool iproute2 util-linux >&2

# The kernel: what Debian's current one for clouds is. It has pktgen, ip_vs, ipip, 8021q and AF_XDP, and a quarter of the other's drivers.
kernel_package() { apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p'; }
package=$(kernel_package)
if [ -z "$package" ]; then
	apt-get -qq update
	package=$(kernel_package)
fi
version=${package#linux-image-}
kernel=$work/$package
if [ ! -e "$kernel/unpacked" ]; then
	echo "fetching $package" >&2
	rm -rf "$kernel"
	mkdir -p "$kernel"
	(cd "$kernel" && { apt-get -qq download "$package" 2>/dev/null || { apt-get -qq update && apt-get -qq download "$package"; }; } && dpkg-deb -x ./*.deb . && rm ./*.deb && touch unpacked)
fi

echo "making the guest's root" >&2
rm -rf "$root"
mkdir -p "$root"/{bin,dev,etc,lib64,proc,root,run,sbin,sys,tmp,usr} "$root/lib/modules/$version/kernel"
CGO_ENABLED=0 $GO build -trimpath -o "$root/bin/" ./cmd/weir ./bench/bare ./bench/vm
install -m 0755 bench/pktgen/pktgen.sh "$root/bin/pktgen.sh"
install -m 0755 bench/vm/init.sh "$root/init"
cp "$(command -v busybox)" "$root/bin/busybox"
for program in "${programs[@]}"; do
	path=$(command -v "$program")
	cp -L "$path" "$root/bin/$program"
	# The loader and the libraries, where the program looks for them.
	ldd "$path" | grep -o '/[^ )]*' | while read -r library; do
		mkdir -p "$root$(dirname "$library")"
		cp -L "$library" "$root$library"
	done
done
modules=$kernel/lib/modules/$version
cp "$modules"/modules.{builtin,builtin.modinfo,order} "$root/lib/modules/$version/"
(cd "$modules" && find kernel/net kernel/lib kernel/crypto kernel/arch kernel/drivers/net/veth.ko -name '*.ko' -print0 | cpio -0pdm --quiet "$OLDPWD/$root/lib/modules/$version")
PATH=$PATH:/sbin:/usr/sbin depmod -b "$root" "$version"
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd.gz"

echo "booting Linux $version in software: this is slow" >&2
rm -f "$work/output"
# The first serial port is the kernel's, the second one the program's.
timeout --foreground --kill-after=5 "$limit" nice -n 10 qemu-system-x86_64 \
	-accel tcg,thread=multi -smp 2 -m 2048 -nic none -display none -monitor none -no-reboot \
	-kernel "$kernel/boot/vmlinuz-$version" -initrd "$work/initrd.gz" -append "console=ttyS0 panic=-1 -- $*" \
	-serial "file:$work/console.log" -serial stdio </dev/null | tee "$work/output" | grep --line-buffered -v '^bench-vm: status' || true
status=$(sed -n 's/^bench-vm: status \([0-9]*\).*/\1/p' "$work/output")
if [ -z "$status" ]; then
	echo "bench-vm: the guest did not come to its end in $limit s; the end of $work/console.log:" >&2
	tail -n 20 "$work/console.log" >&2
	exit 1
fi
exit "$status"
