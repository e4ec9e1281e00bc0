#!/bin/bash
# The benchmarks, called by `make bench`: the worker in memory, then the whole director on AF_XDP beside its peers (root). What it prints
# belongs into bench/RESULTS.md. Arguments go to `weirlab bench`: --quick takes seconds, --json keeps every sample.
set -euo pipefail
cd "$(dirname "$0")/.."

GO=${GO:-go}
benchtime=500ms
for a in "$@"; do
	if [ "$a" = --quick ]; then benchtime=50ms; fi
done

# The rig's tools, and the peers; a quick run has no TCP and does without the proxies.
packages=(ethtool nftables ipvsadm kmod util-linux)
case " $* " in
*" --quick "*) ;;
*) packages+=(wrk iperf3 haproxy nginx-light libnginx-mod-stream) ;;
esac
scripts/deps.sh "${packages[@]}"
$GO build -trimpath -o bin/ ./bench/bare
echo "In memory: go test ./bench -bench . -benchtime $benchtime" >&2
$GO test ./bench -run '^$' -bench . -benchtime "$benchtime" | grep -E '^(cpu|Benchmark)' >&2
exec bin/weirlab bench "$@"
