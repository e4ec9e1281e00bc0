#!/bin/bash
# Sends UDP with the kernel's pktgen at a director on a real NIC, from a machine that is joined to it. See README.md beside this file.
#
#   pktgen.sh -i DEV -m DIRECTOR_MAC -d VIP [-p PORT] [-s FIRST_SOURCE] [-f FLOWS] [-z SIZE] [-r PPS] [-t THREADS] [-n COUNT] [-c CLONES]
#
# FLOWS (default 1000) differ in source port, and from 60,000 on in source address too. SIZE is of the frame with its FCS (default 64). PPS is
# of all threads together (default 0: as fast as it goes). COUNT packets are sent by each thread (default 10000000; 0: until ^C). CLONES is how
# often each packet is sent again before the next is made: 0 on veth, which cannot; it also keeps all flows, so it is the default.
set -euo pipefail

port=53 source=198.18.0.1 flows=1000 size=64 rate=0 threads=1 count=10000000 clones=0 dev="" mac="" dst=""
while getopts i:m:d:p:s:f:z:r:t:n:c: option; do
	case $option in
	i) dev=$OPTARG ;; m) mac=$OPTARG ;; d) dst=$OPTARG ;; p) port=$OPTARG ;; s) source=$OPTARG ;; f) flows=$OPTARG ;;
	z) size=$OPTARG ;; r) rate=$OPTARG ;; t) threads=$OPTARG ;; n) count=$OPTARG ;; c) clones=$OPTARG ;;
	*) sed -n 's/^# \{0,1\}//; 2,9p' "$0" >&2; exit 2 ;;
	esac
done
if [ -z "$dev" ] || [ -z "$mac" ] || [ -z "$dst" ]; then
	echo "pktgen.sh: -i, -m and -d are needed" >&2
	exit 2
fi
if [ ! -d /proc/net/pktgen ] && ! modprobe pktgen; then
	echo "pktgen.sh: this kernel has no pktgen (CONFIG_NET_PKTGEN)" >&2
	exit 1
fi

set_to() { # FILE WORDS...: one command of pktgen, whose answer is in the file (Documentation/networking/pktgen.rst)
	local file=/proc/net/pktgen/$1
	shift
	if ! echo "$*" >"$file" || ! grep -q '^Result: OK' "$file" && grep -q '^Result:' "$file"; then
		echo "pktgen.sh: $*: $(grep '^Result:' "$file")" >&2
		exit 1
	fi
}

next_address() { # ADDRESS N: the Nth after it
	local a b c d
	IFS=. read -r a b c d <<<"$1"
	local n=$(((a << 24) + (b << 16) + (c << 8) + d + $2))
	echo $((n >> 24 & 255)).$((n >> 16 & 255)).$((n >> 8 & 255)).$((n & 255))
}

ports=$((flows < 60000 ? flows : 60000))
addresses=$(((flows + ports - 1) / ports))
stop() { echo stop >/proc/net/pktgen/pgctrl; }
trap stop INT TERM
echo reset >/proc/net/pktgen/pgctrl

for ((t = 0; t < threads; t++)); do
	name=$dev@$t
	set_to "kpktgend_$t" add_device "$name"
	# One transmit queue for each thread.
	set_to "$name" "queue_map_min $t"
	set_to "$name" "queue_map_max $t"
	set_to "$name" "count $count"
	set_to "$name" "clone_skb $clones"
	set_to "$name" "pkt_size $((size - 4))"
	set_to "$name" "dst_mac $mac"
	set_to "$name" "dst $dst"
	set_to "$name" "udp_dst_min $port"
	set_to "$name" "udp_dst_max $port"
	set_to "$name" "flag UDPCSUM"
	set_to "$name" "flag UDPSRC_RND"
	set_to "$name" "udp_src_min 1024"
	set_to "$name" "udp_src_max $((1024 + ports))"
	set_to "$name" "src_min $source"
	set_to "$name" "src_max $(next_address "$source" $((addresses - 1)))"
	[ "$addresses" -eq 1 ] || set_to "$name" "flag IPSRC_RND"
	[ "$rate" -eq 0 ] || set_to "$name" "ratep $((rate / threads))"
done

echo start >/proc/net/pktgen/pgctrl # returns when all has been sent
for ((t = 0; t < threads; t++)); do
	echo "thread $t: $(sed -n '/^Result:/{N; s/\n */ /; p}' "/proc/net/pktgen/$dev@$t")"
done
