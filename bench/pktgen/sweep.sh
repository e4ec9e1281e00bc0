#!/bin/bash
# The highest rate at which a director loses no more than 0.1 %, for every frame size and number of flows, by pktgen.sh. See README.md beside this file.
#
#   sweep.sh -R COMMAND [-z "SIZES"] [-f "FLOWS"] [-T SECONDS] [-l LOSS] -- PKTGEN_FLAGS...
#
#   -R COMMAND  prints how many packets the director has sent so far
#   -z SIZES    of the frames (default "64 128 256 512 1024 1280 1518 imix": RFC 2544 section 9.1, and a mix)
#   -f FLOWS    (default "1000 65536 1000000")
#   -T SECONDS  of each trial (default 10; RFC 2544 asks for 60)
#   -l LOSS     that is tolerated, in packets of a million (default 1000)
#
# Prints a line for each: size, flows, the rate of a flood and what came through of it, and the highest rate without loss. A search ends when
# it knows the rate to 2 %.
set -euo pipefail
here=$(dirname "$0")

usage() {
	sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
	exit 2
}

reader="" sizes="64 128 256 512 1024 1280 1518 imix" flow_counts="1000 65536 1000000" seconds=10 tolerated=1000
while getopts R:z:f:T:l: option; do
	case $option in
	R) reader=$OPTARG ;; z) sizes=$OPTARG ;; f) flow_counts=$OPTARG ;; T) seconds=$OPTARG ;; l) tolerated=$OPTARG ;;
	*) usage ;;
	esac
done
shift $((OPTIND - 1))
if [ -z "$reader" ] || [ $# -eq 0 ]; then usage; fi

# trial PKTGEN_FLAGS...: sends for a time, and sets sent, rate (packets per second) and passed (packets).
trial() {
	local before after line
	before=$(bash -c "$reader")
	line=$("$here/pktgen.sh" "$@" -z "$size" -f "$flows" -T "$seconds")
	sleep 1 # what is on its way
	after=$(bash -c "$reader")
	read -r _ sent _ _ _ _ rate _ <<<"$line"
	passed=$((after - before))
}

# lossless: whether the last trial was.
lossless() { [ $(((sent - passed) * 1000000)) -le $((sent * tolerated)) ]; }

printf '%6s %9s %12s %12s %12s\n' size flows 'flood pps' 'passed pps' 'no-loss pps'
for size in $sizes; do
	for flows in $flow_counts; do
		trial "$@" -r 0
		flood=$rate through=$((passed / seconds))
		first=$through # what came through a flood is where to begin
		low=0 high=$rate
		if lossless; then low=$rate; fi
		while [ $((high - low)) -gt $((high / 50)) ] && [ "$high" -gt 1000 ]; do
			try=$(((low + high) / 2))
			if [ "$first" -gt 1000 ] && [ "$first" -lt "$high" ]; then try=$first; fi
			first=0
			trial "$@" -r "$try"
			if lossless; then low=$try; else high=$try; fi
		done
		printf '%6s %9s %12s %12s %12s\n' "$size" "$flows" "$flood" "$through" "$low"
	done
done
