#!/bin/sh
# Runs the checks of `make test` one after another and says how long each took; stops at the first that fails.
#
#   scripts/test.sh           all of them
#   scripts/test.sh lint      formatting and lints only
#   scripts/test.sh audit     licences, banned and unused dependencies
set -eu
cd "$(dirname "$0")/.."

# Clippy takes part in the ordinary build: as wrapper of the compiler for our own crates, which it lints and compiles in one
# pass. `cargo clippy` would compile the metadata of all 600 dependencies a second time.
# Warnings are refused on the Rust version this is developed with; a newer clippy has lints that no one here has seen.
export RUSTC_WORKSPACE_WRAPPER=clippy-driver
case $(rustc --version) in
    'rustc 1.95.'*) export CLIPPY_ARGS='-Dwarnings__CLIPPY_HACKERY__' ;;
esac

# The end-to-end tests, which take most of the time, often wait for a broker, a process or a clock: on few cores one test more at once than
# there are cores keeps those busy.
cores=$(getconf _NPROCESSORS_ONLN)
if [ "$cores" -le 4 ]; then
    export RUST_TEST_THREADS="${RUST_TEST_THREADS:-$((cores + 1))}"
fi

step() {
    printf '\n=== %s\n' "$*"
    started=$(date +%s)
    "$@"
    printf '=== took %s s\n' "$(($(date +%s) - started))"
}

audit() {
    step "$tools/cargo-deny" --all-features --locked check licenses bans
    step "$tools/cargo-machete"
}

tools=${WATERSHED_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/watershed}/tools
case ${1:-all} in
    all)
        step cargo fmt --all --check
        step cargo test --locked --workspace --all-targets --features failpoints --no-run
        step cargo test --locked --workspace --features failpoints --no-fail-fast
        audit
        ;;
    lint)
        step cargo fmt --all --check
        step cargo build --locked --workspace --all-targets --features failpoints
        ;;
    audit)
        audit
        ;;
esac
