#!/bin/bash
# Sends UDP at a director with the kernel's pktgen, from a machine that is joined to it. See README.md beside this file.
#
#   pktgen.sh -i DEV -m DIRECTOR_MAC -d VIP [-p PORT] [-s FIRST_SOURCE] [-f FLOWS] [-z SIZE] [-r PPS] [-t THREADS] [-T SECONDS] [-v VLAN] [-c CLONES]
#
#   -p PORT          of the service (default 53)
#   -s FIRST_SOURCE  address of the first client (default 198.18.0.1, of RFC 2544's own network); others follow it
#   -f FLOWS         that the packets belong to, at random (default 1000): source ports from 1024 up, and 60,000 of them at most for each address
#   -z SIZE          of the frames in bytes, FCS included (default 64); "imix": 64, 594 and 1518 as 7 to 4 to 1
#   -r PPS           packets per second, of all threads together (default 0: as many as they can)
#   -t THREADS       CPUs that send, from CPU 0 up, each by the transmit queue of its number (default 1)
#   -T SECONDS       that it lasts (default 10; 0: until ^C)
#   -v VLAN          ID to tag the frames with
#   -c CLONES        how often each packet is sent again before the next is made (default 0): faster, but packets of a flow come in rows. A veth
#                    cannot
#
# Prints what was sent: "sent 14880952 packets in 1.000 s, 14880952 pps, 0 errors".
set -euo pipefail
pktgen=/proc/net/pktgen

fail() {
	echo "pktgen.sh: $*" >&2
	exit 1
}

usage() {
	sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
	exit 2
}

dev="" mac="" dst="" port=53 source=198.18.0.1 flows=1000 size=64 rate=0 threads=1 seconds=10 vlan="" clones=0
while getopts i:m:d:p:s:f:z:r:t:T:v:c: option; do
	case $option in
	i) dev=$OPTARG ;; m) mac=$OPTARG ;; d) dst=$OPTARG ;; p) port=$OPTARG ;; s) source=$OPTARG ;; f) flows=$OPTARG ;; z) size=$OPTARG ;;
	r) rate=$OPTARG ;; t) threads=$OPTARG ;; T) seconds=$OPTARG ;; v) vlan=$OPTARG ;; c) clones=$OPTARG ;;
	*) usage ;;
	esac
done
if [ -z "$dev" ] || [ -z "$mac" ] || [ -z "$dst" ]; then usage; fi
[ "$size" = imix ] || { [ "$size" -ge 64 ] && [ "$size" -le 9018 ]; } || fail "-z $size: allowed are 64 to 9018, and imix"
[ "$flows" -ge 1 ] || fail "-f $flows: at least 1"
{ [ "$threads" -ge 1 ] && [ "$threads" -le "$(nproc --all)" ]; } || fail "-t $threads: allowed are 1 to $(nproc --all), the number of CPUs"
[ "$rate" -eq 0 ] || [ "$rate" -ge "$threads" ] || fail "-r $rate: less than one a second for each thread"
[ -d $pktgen ] || modprobe pktgen || fail "this kernel has no pktgen (CONFIG_NET_PKTGEN)"

# tell FILE COMMAND: one command to pktgen, whose answer is in the file (Documentation/networking/pktgen.rst).
tell() {
	echo "$2" >"$pktgen/$1" || fail "$2: $(grep '^Result:' "$pktgen/$1")"
}

# address A N: the Nth address after A.
address() {
	local a b c d n
	IFS=. read -r a b c d <<<"$1"
	n=$(((a << 24) + (b << 16) + (c << 8) + d + $2))
	echo "$((n >> 24 & 255)).$((n >> 16 & 255)).$((n >> 8 & 255)).$((n & 255))"
}

addresses=$(((flows + 59999) / 60000))
ports=$(((flows + addresses - 1) / addresses))

echo reset >$pktgen/pgctrl
for ((t = 0; t < threads; t++)); do
	name=$dev@$t
	tell "kpktgend_$t" "add_device $name"
	tell "$name" "queue_map_min $t"
	tell "$name" "queue_map_max $t"
	tell "$name" "count 0"
	tell "$name" "clone_skb $clones"
	if [ "$size" = imix ]; then
		tell "$name" "imix_weights 60,7 590,4 1514,1"
	else
		tell "$name" "pkt_size $((size - 4))"
	fi
	tell "$name" "dst_mac $mac"
	tell "$name" "dst $dst"
	tell "$name" "udp_dst_min $port"
	tell "$name" "udp_dst_max $port"
	tell "$name" "flag UDPCSUM"
	# At random means up to, not including, the maximum (net/core/pktgen.c, mod_cur_headers).
	tell "$name" "flag UDPSRC_RND"
	tell "$name" "udp_src_min 1024"
	tell "$name" "udp_src_max $((1024 + ports))"
	tell "$name" "src_min $source"
	if [ "$addresses" -eq 1 ]; then
		tell "$name" "src_max $source"
	else
		tell "$name" "flag IPSRC_RND"
		tell "$name" "src_max $(address "$source" "$addresses")"
	fi
	[ -z "$vlan" ] || tell "$name" "vlan_id $vlan"
	[ "$rate" -eq 0 ] || tell "$name" "ratep $((rate / threads))"
done

# The write of "start" returns when all threads have stopped: somebody else has to be there for the time and for signals.
stop() { echo stop >$pktgen/pgctrl; }
trap : INT TERM # end the next wait
echo "sending" >&2
echo start >$pktgen/pgctrl &
sending=$!
[ "$seconds" != 0 ] || seconds=infinity
sleep "$seconds" &
timer=$!
wait -n || true
stop
kill $timer 2>/dev/null || true
wait $sending || fail "pktgen: $(grep -h '^Result:' "$pktgen/$dev@"*)"

# Of each thread: "Result: OK: 1000(c999+d1) usec, 1488095 (60byte,0frags)" and "  1488095pps 714Mb/sec (714285600bps) errors: 0".
for ((t = 0; t < threads; t++)); do
	grep -A 1 '^Result: OK' "$pktgen/$dev@$t" || fail "thread $t: $(grep '^Result:' "$pktgen/$dev@$t")"
done | awk '
	/^Result/ { if ($3 + 0 > usec) usec = $3 + 0; packets += $5 }
	/pps/     { pps += $1; errors += $NF }
	END       { printf "sent %d packets in %.3f s, %d pps, %d errors\n", packets, usec / 1e6, pps, errors }'
