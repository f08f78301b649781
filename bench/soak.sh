#!/bin/sh
# Runs the demo for a long time and writes down what it takes: resident memory, threads, disk, files.
#
#   bench/soak.sh BINARY [SECONDS=3600] [FOLDER]
#
# One line a minute. Fails if memory ever passes MEMORY_MAX_MIB (2048) or the demo's reconciliation does not hold at the end.
set -eu

binary=${1:?usage: bench/soak.sh BINARY [SECONDS] [FOLDER]}
seconds=${2:-3600}
folder=${3:-$(mktemp -d)}
memory_max_mib=${MEMORY_MAX_MIB:-2048}
mkdir -p "$folder"

"$binary" demo --dir "$folder" --seconds "$seconds" --no-prompt >"$folder.log" 2>&1 &
demo=$!
trap 'kill "$demo" 2>/dev/null || true' INT TERM

of() { awk -v key="$1:" '$1 == key { print $2 }' "/proc/$demo/status" 2>/dev/null; }

printf '%8s %10s %10s %8s %10s %8s\n' minutes rss_mib anon_mib threads disk_mib files
started=$(date +%s)
over=0
while kill -0 "$demo" 2>/dev/null; do
    rss=$(of VmRSS)
    [ -n "$rss" ] || break
    files=$(find "$folder" -name '*.parquet' | wc -l)
    disk=$(du -sm "$folder" | cut -f 1)
    minutes=$(($(date +%s) - started))
    printf '%8s %10s %10s %8s %10s %8s\n' "$((minutes / 60))" "$((rss / 1024))" "$(($(of RssAnon) / 1024))" "$(of Threads)" "$disk" "$files"
    [ "$((rss / 1024))" -le "$memory_max_mib" ] || over=1
    sleep 60
done
status=0
wait "$demo" || status=$?
tail -n 30 "$folder.log"
[ "$over" = 0 ] || { echo "soak: memory passed $memory_max_mib MiB" >&2; exit 1; }
exit "$status"
