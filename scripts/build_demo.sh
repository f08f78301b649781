#!/bin/sh
# Builds the binary for `make demo`, and says before it does what takes so long, and how long.
set -eu
cd "$(dirname "$0")/.."

# What a build from nothing took when it was measured last (docs/development.md). It compiled more then.
CPU_MINUTES=46

cores=$(getconf _NPROCESSORS_ONLN)
# The last crates wait for one another: more than eight cores help little.
[ "$cores" -le 8 ] || cores=8
minutes=$(((CPU_MINUTES + cores - 1) / cores + 1))

if [ -x "${CARGO_TARGET_DIR:-target}/debug/watershed" ]; then
    echo "demo: building what has changed since the last time"
else
    echo "demo: building Watershed, this once about $minutes minutes on $cores idle cores; from then on only what changes"
    echo "demo: most of it is DataFusion (SQL), Arrow and Parquet (columns), and Kafka's client in C; cargo counts the crates below"
fi
cargo build --locked --bin watershed
