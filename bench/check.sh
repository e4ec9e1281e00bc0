#!/bin/bash
# Compares the in-memory benchmarks with bench/baseline.txt by benchstat, and fails where one has become more than 10 % slower, significantly,
# or allocates more at all. So that machines can be compared, every time is divided by that of a calibration loop in the same round: those
# with few flows by kind=cpu, those with a million by kind=memory.
#
#   bench/check.sh              compare
#   bench/check.sh --update     make what is measured now the baseline
#   ROUNDS=10 bench/check.sh    rounds (default 6, the fewest that can be significant at 1 %)
set -euo pipefail
cd "$(dirname "$0")"

go=${GO:-go}
rounds=${ROUNDS:-6}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ "${1:-}" != --update ] && [ ! -e baseline.txt ]; then
	echo "bench/check.sh: no bench/baseline.txt: make one on a quiet machine by bench/check.sh --update" >&2
	exit 2
fi
$go test -c -o "$work/bench.test" .
for ((i = 1; i <= rounds; i++)); do
	echo "round $i of $rounds" >&2
	"$work/bench.test" -test.run '^$' -test.bench 'Calibrate|Worker' -test.benchtime 200ms -test.cpu 1 >"$work/round"
	awk '
		$1 ~ /^BenchmarkCalibrate/ { split($1, name, "="); unit[name[2]] = $3; next }
		/^Benchmark/ {
			kind = $1 ~ /flows=1000000/ ? "memory" : "cpu"
			printf "%s 1 %.4f loops/op", $1, $3 / unit[kind]
			for (f = 5; f < NF; f += 2) if ($(f + 1) == "allocs/op") printf " %s allocs/op", $f
			print ""
		}' "$work/round" >>"$work/new"
done
if [ "${1:-}" = --update ]; then
	cp "$work/new" baseline.txt
	exit
fi
$go tool benchstat baseline.txt "$work/new"
# The line of a benchmark, in csv: name, baseline, its spread, now, its spread, change ("~": not significant), p. A table for each unit.
$go tool benchstat -format csv baseline.txt "$work/new" 2>/dev/null | awk -F, '
	/^,loops\/op/ { unit = "loops" }
	/^,allocs\/op/ { unit = "allocs" }
	$1 == "" || $1 == "geomean" || NF < 6 { next }
	unit == "loops" && $6 ~ /^\+/ && $6 + 0 > 10 { print "slower: " $1 ": " $6 " (" $7 ")"; bad = 1 }
	unit == "allocs" && $4 > $2 { print "allocates: " $1 ": " $2 " before, " $4 " now"; bad = 1 }
	END { exit bad }'
