#!/bin/sh
# Makes what is handed to others: an archive of the binary, its completions, manual pages and licences, and the archive's SHA-256.
#
#   scripts/dist.sh           into $WATERSHED_CACHE/dist
#
# The binary holds OpenSSL (the system's static library) and all else but the C library, so it runs on any Linux whose glibc is not older than
# that of the machine it was built on: build on the oldest one it is meant for.
set -eu
cd "$(dirname "$0")/.."

SIZE_MAX_MIB=120

say() { printf 'dist: %s\n' "$*"; }
fail() { printf 'dist: %s\n' "$*" >&2; exit 1; }

target=$(rustc -vV | sed -n 's/^host: //p')
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
name=watershed-$version-$target
folder=${WATERSHED_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/watershed}/dist

say "building $name, optimised as a whole: half an hour to an hour on two cores"
# Named, because pkg-config's crate never takes a static library from /usr.
OPENSSL_LIB_DIR=$(pkg-config --variable=libdir openssl)
OPENSSL_INCLUDE_DIR=$(pkg-config --variable=includedir openssl)
export OPENSSL_STATIC=1 OPENSSL_LIB_DIR OPENSSL_INCLUDE_DIR
cargo build --locked --profile dist --bin watershed
built=${CARGO_TARGET_DIR:-target}/dist/watershed

size=$(wc -c <"$built")
[ "$size" -le $((SIZE_MAX_MIB * 1024 * 1024)) ] ||
    fail "the binary has $size bytes, and $SIZE_MAX_MIB MiB is the limit; see what grew it: cargo tree -e features, crates.txt, [profile.dist]"

rm -rf "${folder:?}/$name" "$folder/$name.tar.gz" "$folder/$name.tar.gz.sha256"
mkdir -p "$folder/$name/completions"
cp "$built" LICENSE "$folder/$name/"
cp query/src/http/page/plotly-basic.LICENSE "$folder/$name/LICENSE-plotly"
"$built" completions bash >"$folder/$name/completions/watershed.bash"
"$built" completions zsh >"$folder/$name/completions/_watershed"
"$built" completions fish >"$folder/$name/completions/watershed.fish"
"$built" man "$folder/$name/man/man1"

tar -C "$folder" -czf "$folder/$name.tar.gz" "$name"
rm -rf "${folder:?}/$name"
cd "$folder"
if command -v sha256sum >/dev/null 2>&1; then
    sha256sum "$name.tar.gz" >"$name.tar.gz.sha256"
else
    shasum -a 256 "$name.tar.gz" >"$name.tar.gz.sha256"
fi

say "the binary has $((size / 1024 / 1024)) MiB"
if command -v objdump >/dev/null 2>&1 && [ "$(uname -s)" = Linux ]; then
    say "it needs glibc $(objdump -T "$built" | sed -n 's/.*(GLIBC_\([0-9.]*\)).*/\1/p' | sort -uV | tail -n 1) or a newer one"
fi
say "$folder/$name.tar.gz"
