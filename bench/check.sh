#!/bin/bash
# Compares the in-memory benchmarks with bench/baseline.txt by benchstat, and fails where one has become more than 10 % slower, significantly,
# or allocates more at all.
#
#   bench/check.sh                            compare (a few minutes)
#   bench/check.sh --update                   make what is measured now the baseline: on a quiet machine, and commit it
#   BENCH=Worker/mode=NAT bench/check.sh      only those benchmarks
#   ROUNDS=10 bench/check.sh                  rounds (default 6)
#
# What is compared is the worker's CPU time as a multiple of a calibration loop's (calibrate_test.go), so that machines can be compared. The two
# take turns of half a millisecond, so that other work on the machine slows both; each round is a process of its own, with another
# placement in memory. What seems slower is measured once more, and counts only if it is so again.
set -euo pipefail
cd "$(dirname "$0")"

go=${GO:-go}
rounds=${ROUNDS:-6}
bench=${BENCH:-Worker}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ "${1:-}" != --update ] && [ ! -e baseline.txt ]; then
	echo "bench/check.sh: no bench/baseline.txt: make one on a quiet machine by bench/check.sh --update" >&2
	exit 2
fi
$go test -c -o "$work/bench.test" .

# measure FILE PATTERN...: all rounds of the benchmarks that one of the patterns means, each a line "name 1 N loops/op M allocs/op".
measure() {
	local into=$1 i pattern
	shift
	for ((i = 1; i <= rounds; i++)); do
		echo "round $i of $rounds" >&2
		for pattern in "$@"; do
			"$work/bench.test" -calibrate -test.run '^$' -test.bench "$pattern" -test.benchtime 1x -test.cpu 1 >"$work/round" || {
				cat "$work/round" >&2
				return 1
			}
			awk '
				/^Benchmark/ {
					loops = allocs = ""
					for (f = 3; f < NF; f += 2) {
						if ($(f + 1) == "loops/op") loops = $f
						if ($(f + 1) == "allocs/op") allocs = $f
					}
					if (loops != "") print $1, 1, loops, "loops/op", allocs, "allocs/op"
				}' "$work/round" >>"$into"
		done
	done
}

# compare FILE: prints a line for each that became worse, "slower: NAME ..." or "allocates: NAME ...".
# The line of a benchmark, in csv: name, baseline, its spread, now, its spread, change ("~": not significant), p. A table for each unit.
compare() {
	# Only what was measured now: benchstat would show the rest as missing.
	awk 'NR == FNR { wanted[$1]; next } $1 in wanted' "$1" baseline.txt >"$work/baseline"
	$go tool benchstat -format csv baseline="$work/baseline" now="$1" 2>/dev/null | awk -F, '
		/^,loops\/op/ { unit = "loops" }
		/^,allocs\/op/ { unit = "allocs" }
		$1 == "" || $1 == "geomean" || NF < 6 { next }
		{ compared++ }
		unit == "loops" && $6 ~ /^\+/ && $6 + 0 > 10 { print "slower: " $1 ": " $6 " (" $7 ")" }
		unit == "allocs" && $4 > $2 { print "allocates: " $1 ": " $2 " before, " $4 " now" }
		END { if (!compared) print "nothing: was compared" }'
}

measure "$work/new" "$bench"
if [ ! -s "$work/new" ]; then
	echo "bench/check.sh: no benchmark is named $bench" >&2
	exit 2
fi
if [ "${1:-}" = --update ]; then
	sort -s -k1,1 "$work/new" >baseline.txt
	echo "bench/baseline.txt has $(cut -d' ' -f1 baseline.txt | sort -u | wc -l) benchmarks, $rounds rounds" >&2
	exit
fi
cut -d' ' -f1 "$work/new" | sort -u >"$work/names"
cut -d' ' -f1 baseline.txt | sort -u | comm -13 - "$work/names" | sed 's/$/: not in the baseline/' >&2
worse=$(compare "$work/new")
$go tool benchstat baseline="$work/baseline" now="$work/new"
if [ -n "$worse" ]; then
	# The name that benchstat prints, Worker/mode=NAT/flows=1024, as a pattern for it alone: one for each part.
	mapfile -t again < <(sed -n 's/^slower: \([^:]*\): .*/\1/p' <<<"$worse" | sed 's|/|$/^|g; s|.*|^Benchmark&$|')
	if [ ${#again[@]} -gt 0 ]; then
		echo "measuring once more what seems slower:" >&2
		sed 's/^/  /' <<<"$worse" >&2
		measure "$work/again" "${again[@]}"
		worse=$(
			grep -v '^slower: ' <<<"$worse" || true
			compare "$work/again"
		)
	fi
fi
if [ -n "$worse" ]; then
	echo "$worse"
	exit 1
fi
