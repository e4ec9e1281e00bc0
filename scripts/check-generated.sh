#!/usr/bin/env bash
# The committed BPF objects and generated Go must be what their sources compile to. Objects differ between compilers, so this
# compares only where the compiler they were made with is there.
set -euo pipefail
cd "$(dirname "$0")/.."
want='clang version 14'
if ! clang --version 2>/dev/null | grep -q "$want"; then
  echo "check-generated: needs $want, found $(clang --version 2>/dev/null | head -n 1 || true); not compared" >&2
  [ "${CI:-}" = true ] && exit 1
  exit 0
fi
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z | xargs -0 cp --parents -t "$copy"
(cd "$copy" && go generate ./...)
status=0
while IFS= read -r -d '' file; do
  cmp -s "$file" "$copy/$file" || { echo "check-generated: $file is not what its source generates: run make generate" >&2; status=1; }
done < <(git ls-files -z)
exit $status
