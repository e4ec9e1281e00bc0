#!/bin/bash
# The benchmarks, called by `make bench`: the worker in memory, then the whole director on AF_XDP beside its peers (root), about half an hour.
# What it prints belongs into bench/RESULTS.md; every sample is in bin/bench.json. Arguments go to `weirlab bench`: --quick takes a minute or two.
set -euo pipefail
cd "$(dirname "$0")/.."

GO=${GO:-go}
benchtime=300ms
count=5
for a in "$@"; do
	if [ "$a" = --quick ]; then benchtime=20ms count=1; fi
done

# The rig's tools, and the peers; a quick run has no TCP and does without the proxies.
packages=(ethtool nftables ipvsadm kmod util-linux)
case " $* " in
*" --quick "*) ;;
*) packages+=(wrk iperf3 haproxy nginx-light libnginx-mod-stream) ;;
esac
scripts/deps.sh "${packages[@]}"
$GO build -trimpath -o bin/ ./bench/bare
memory=bin/benchmarks.txt
echo "In memory: go test ./bench -bench ..., into $memory" >&2
# What takes long to set up is measured once; the rest as often as the rig makes runs.
{
	$GO test ./bench -run '^$' -timeout 30m -bench 'Worker|Calibrate' -benchtime "$benchtime" -count "$count"
	$GO test ./bench -run '^$' -timeout 30m -bench 'Open' -benchtime 1x -count "$count"
	$GO test ./bench -run '^$' -timeout 30m -bench 'Resident|Parallel' -benchtime "$benchtime"
	$GO test ./bench -run '^$' -timeout 30m -bench 'Expiry|Collection' -benchtime 1x
} | grep -E '^(cpu|Benchmark|---|FAIL|panic)' | tee "$memory" >&2
exec bin/weirlab bench --benchmarks "$memory" --save bin/bench.json "$@"
