#!/bin/bash
# Compares the in-memory benchmarks with bench/baseline.txt by benchstat, and fails where one has become more than 10 % slower, significantly,
# or allocates more at all.
#
#   bench/check.sh                            compare (some minutes)
#   bench/check.sh --update                   make what is measured now the baseline: on a quiet machine, and commit it
#   BENCH=Worker/mode=NAT bench/check.sh      only those benchmarks
#   ROUNDS=10 bench/check.sh                  rounds (default 6, the fewest that can be significant at 1 %)
#
# What is compared is CPU time, which other processes lengthen less than time by the clock, the shortest of three in each round, divided by that
# of a calibration loop in the same round, so that machines can be compared: benchmarks with few flows by kind=cpu, those with a
# million by kind=memory.
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
for ((i = 1; i <= rounds; i++)); do
	echo "round $i of $rounds" >&2
	"$work/bench.test" -test.run '^$' -test.bench "Calibrate|$bench" -test.benchtime 100ms -test.count 3 -test.cpu 1 >"$work/round"
	awk '
		/^Benchmark/ {
			for (f = 3; f < NF; f += 2) {
				if ($(f + 1) == "cpu-ns/op" && (!($1 in least) || $f < least[$1])) least[$1] = $f
				if ($(f + 1) == "allocs/op" && $f >= allocs[$1]) allocs[$1] = $f
			}
		}
		END {
			for (name in least) {
				if (name ~ /^BenchmarkCalibrate/) continue
				kind = name ~ /flows=1000000/ ? "memory" : "cpu"
				printf "%s 1 %.4f loops/op %d allocs/op\n", name, least[name] / least["BenchmarkCalibrate/kind=" kind], allocs[name]
			}
		}' "$work/round" | sort >>"$work/new"
done
if [ ! -s "$work/new" ]; then
	echo "bench/check.sh: no benchmark is named $bench" >&2
	exit 2
fi
if [ "${1:-}" = --update ]; then
	cp "$work/new" baseline.txt
	echo "bench/baseline.txt has $(cut -d' ' -f1 baseline.txt | sort -u | wc -l) benchmarks, $rounds rounds" >&2
	exit
fi
# Only what was measured now: benchstat would show the rest as missing.
cut -d' ' -f1 "$work/new" | sort -u >"$work/names"
awk 'NR == FNR { wanted[$1]; next } $1 in wanted' "$work/names" baseline.txt >"$work/baseline"
cut -d' ' -f1 "$work/baseline" | sort -u | comm -13 - "$work/names" | sed 's/$/: not in the baseline/' >&2
$go tool benchstat baseline="$work/baseline" now="$work/new"
# The line of a benchmark, in csv: name, baseline, its spread, now, its spread, change ("~": not significant), p. A table for each unit.
$go tool benchstat -format csv baseline="$work/baseline" now="$work/new" 2>/dev/null | awk -F, '
	/^,loops\/op/ { unit = "loops" }
	/^,allocs\/op/ { unit = "allocs" }
	$1 == "" || $1 == "geomean" || NF < 6 { next }
	{ compared++ }
	unit == "loops" && $6 ~ /^\+/ && $6 + 0 > 10 { print "slower: " $1 ": " $6 " (" $7 ")"; bad = 1 }
	unit == "allocs" && $4 > $2 { print "allocates: " $1 ": " $2 " before, " $4 " now"; bad = 1 }
	END {
		if (!compared) { print "nothing was compared"; bad = 1 }
		exit bad
	}'
