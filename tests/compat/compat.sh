#!/bin/sh
# Asks the binary and other engines the same random queries: compat.sh BINARY PYTHON [COUNT] [SEED]
set -eu
binary=$1 python=$2 count=${3:-20000} seed=${4:-1}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
server=
trap 'if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi; rm -rf "$work"' EXIT INT TERM
"$python" "$here/compat.py" make "$work/warehouse"
"$binary" serve --flight 127.0.0.1:0 --warehouse "$work/warehouse" >"$work/said" 2>&1 &
server=$!
tries=0
until url=$(grep -o 'grpc://[0-9.:]*' "$work/said" 2>/dev/null | head -n 1) && [ -n "$url" ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 100 ]; then cat "$work/said"; echo "error: the server does not listen"; exit 1; fi
    sleep 0.2
done
"$python" "$here/compat.py" run "$url" "$count" "$seed"
