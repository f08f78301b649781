#!/bin/sh
# Makes this machine ready: says what is missing, installs it, and does nothing if nothing is.
#
#   scripts/setup.sh demo     a C compiler, OpenSSL's headers and Rust
#   scripts/setup.sh test     that, and Java, Maven, Python, Go, Chromium; then Kafka, Spark, the JDBC driver, the Python packages
#                             and the S3 server and the Go client the tests use, cargo-deny and cargo-machete
#
# Debian and Ubuntu through apt, macOS through Homebrew; elsewhere it names what to install. Asks nothing:
# sudo is used without a prompt unless a person sits at the terminal. System packages and rustup go where they
# always go; everything else goes to $WATERSHED_CACHE/tools, outside the clone.
set -eu

RUST_MINOR=95 # Rust 1.95: `rust-version` in Cargo.toml
JAVA_MIN=17   # Kafka 4
GO_TOOLCHAIN=1.25.0 # what versitygw and arrow-go ask for
VERSITYGW=v1.8.0
MAVEN_DEPENDENCY_PLUGIN=3.8.1
CARGO_DENY=0.20.2
CARGO_MACHETE=0.9.2

root=$(cd "$(dirname "$0")/.." && pwd)
cache=${WATERSHED_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/watershed}
tools=$cache/tools
PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
export PATH

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# --- what is there? ---------------------------------------------------------------------------------------------

compiles_c() { echo 'int main(void) { return 0; }' | cc -x c - -o /dev/null 2>/dev/null; }
compiles_cpp() { printf '#include <string>\nint main() { return std::string().size(); }\n' | c++ -x c++ - -o /dev/null 2>/dev/null; }
# For Kafka with TLS; compiling OpenSSL itself takes longer than all of Kafka's client.
has_openssl() {
    pkg-config --exists 'openssl >= 1.1.1' 2>/dev/null || { have brew && [ -d "$(brew --prefix openssl@3 2>/dev/null)/include" ]; }
}
has_rust() {
    minor=$(cargo --version 2>/dev/null | sed -n 's/^cargo 1\.\([0-9]*\)\..*/\1/p')
    [ "${minor:-0}" -ge "$RUST_MINOR" ]
}
has_lints() { cargo clippy --version >/dev/null 2>&1 && cargo fmt --version >/dev/null 2>&1; }
has_java() {
    major=$("${JAVA_HOME:+$JAVA_HOME/bin/}java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
    [ "${major:-0}" -ge "$JAVA_MIN" ]
}
# Its path, under any of its names.
chromium_path() {
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$name" && return
    done
    for app in Chromium 'Google Chrome'; do
        [ -x "/Applications/$app.app/Contents/MacOS/$app" ] && echo "/Applications/$app.app/Contents/MacOS/$app" && return
    done
    return 1
}
has_venv() { python3 -c 'import venv, ensurepip' 2>/dev/null; }

# --- system packages --------------------------------------------------------------------------------------------

# Runs a command as root; without a prompt unless a person is there to type a password.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif [ -t 0 ]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

can_be_root() { [ "$(id -u)" = 0 ] || { have sudo && { [ -t 0 ] || sudo -n true 2>/dev/null; }; }; }

# The newest Java this release of Debian or Ubuntu has that Kafka runs on.
apt_java() {
    for version in 21 17 25; do
        if apt-cache policy "openjdk-$version-jre-headless" | grep -q 'Candidate: [0-9]'; then
            echo "openjdk-$version-jre-headless"
            return
        fi
    done
    echo default-jre-headless
}

apt_packages() {
    for want in "$@"; do
        case $want in
            compiler) echo build-essential pkg-config ;;
            openssl) echo libssl-dev ;;
            curl) echo curl ca-certificates ;;
            java) apt_java ;;
            maven) echo maven ;;
            python) echo python3 python3-venv ;;
            go) echo golang-go ;;
            chromium) echo chromium fonts-dejavu-core ;;
        esac
    done | tr '\n' ' '
}

# Installs system packages. Arguments are words of ours: compiler, openssl, curl, java, maven, python, go, chromium.
install_system() {
    say "missing: $*"
    if have apt-get; then
        can_be_root ||
            fail "this needs root, and sudo wants a password or is not there; run yourself as root: apt-get install $(apt_packages "$@")"
        # Lists first: a fresh machine has none.
        as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq || say "apt-get update had errors; going on with the lists there are"
        packages=$(apt_packages "$@")
        say "installing with apt-get: $packages"
        # shellcheck disable=SC2086 # a list of words on purpose
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
    elif have brew; then
        packages=
        for want in "$@"; do
            case $want in
                compiler) have cc || fail "run 'xcode-select --install' for the C compiler, then again" ;;
                openssl) packages="$packages openssl@3" ;;
                curl) packages="$packages curl" ;;
                java) packages="$packages openjdk@21" ;;
                maven) packages="$packages maven" ;;
                python) packages="$packages python@3.12" ;;
                go) packages="$packages go" ;;
                chromium) brew install -q --cask chromium ;;
            esac
        done
        say "installing with Homebrew:$packages"
        # shellcheck disable=SC2086
        [ -z "$packages" ] || brew install -q $packages
        case " $* " in *" java "*) say "for this shell and later ones: export JAVA_HOME=$(brew --prefix openjdk@21)" ;; esac
    else
        fail "neither apt-get nor brew is here; install these yourself (pkg-config with the compiler, headers with openssl): $*"
    fi
}

install_rust() {
    if have rustup; then
        say "installing Rust 1.$RUST_MINOR beside your toolchains, and choosing it for this folder (rustup override)"
        rustup toolchain install "1.$RUST_MINOR" --profile minimal --component clippy --component rustfmt
        (cd "$root" && rustup override set "1.$RUST_MINOR")
    else
        say "installing Rust 1.$RUST_MINOR with rustup to ${CARGO_HOME:-$HOME/.cargo}; your shell profile stays as it is"
        case $(uname -s) in
            Darwin) platform=$(uname -m | sed 's/arm64/aarch64/')-apple-darwin ;;
            *) platform=$(uname -m)-unknown-linux-gnu ;;
        esac
        # The installer itself, from the host that serves the toolchains, too: one host to reach instead of two.
        folder=$(mktemp -d)
        curl --proto '=https' --tlsv1.2 -sSf --retry 3 -o "$folder/rustup-init" "https://static.rust-lang.org/rustup/dist/$platform/rustup-init"
        chmod +x "$folder/rustup-init"
        "$folder/rustup-init" -y -q --no-modify-path --profile minimal --default-toolchain "1.$RUST_MINOR" --component clippy --component rustfmt >/dev/null
        rm -rf "$folder"
    fi
    has_rust || fail "cargo is still older than 1.$RUST_MINOR: $(cargo --version 2>&1)"
}

# --- tools of the tests -----------------------------------------------------------------------------------------

# The jars that tests/$1/pom.xml names ($2: what they are). Their folder is named by the pom's checksum, so that a changed version is
# fetched again.
install_jars() {
    jars=$tools/$1-$(cksum <"$root/tests/$1/pom.xml" | cut -d ' ' -f 1)
    if [ ! -d "$jars" ]; then
        say "fetching $2 with Maven"
        rm -rf "$jars.part"
        (cd "$root/tests/$1" && mvn -q -B -Dstyle.color=never \
            "org.apache.maven.plugins:maven-dependency-plugin:$MAVEN_DEPENDENCY_PLUGIN:copy-dependencies" "-DoutputDirectory=$jars.part")
        mv "$jars.part" "$jars"
    fi
    link "$jars" "$1"
}

install_python_packages() {
    venv=$tools/python-$(cksum <"$root/tests/requirements.txt" | cut -d ' ' -f 1)
    if [ ! -d "$venv" ]; then
        say "installing the Python readers and clients (deltalake, DuckDB, Polars, ADBC, Jupyter; 800 MB) into their own environment"
        rm -rf "$venv.part"
        python3 -m venv "$venv.part"
        "$venv.part/bin/python" -m pip install -q --disable-pip-version-check --only-binary=:all: -r "$root/tests/requirements.txt"
        mv "$venv.part" "$venv"
    fi
    link "$venv" python
}

# The Go that builds versitygw and the Go client: the one installed if it is new enough, else the official toolchain, which the Go module
# mirror serves as a module that even the oldest `go` can download.
go_command() {
    minor=$(GOTOOLCHAIN=local go version | sed -n 's/.* go1\.\([0-9]*\).*/\1/p')
    want=$(echo "$GO_TOOLCHAIN" | cut -d . -f 2)
    if [ "${minor:-0}" -ge "$want" ]; then
        echo go
        return
    fi
    platform=$(GOTOOLCHAIN=local go env GOOS)-$(GOTOOLCHAIN=local go env GOARCH)
    version=v0.0.1-go$GO_TOOLCHAIN.$platform
    (cd / && GOTOOLCHAIN=local GOPATH=$build/go go mod download "golang.org/toolchain@$version") >&2
    home=$build/go/pkg/mod/golang.org/toolchain@$version
    chmod +x "$home"/bin/* "$home"/pkg/tool/*/* # module archives carry no execute bits
    echo "$home/bin/go"
}

install_s3_server() {
    server=$tools/versitygw-$VERSITYGW
    if [ ! -x "$server" ]; then
        say "building the S3 server of the tests (versitygw, 2 minutes)"
        build=$(mktemp -d "$tools/build.XXXXXX")
        go=$(go_command)
        (cd / && GOTOOLCHAIN=local GOROOT='' GOPATH=$build/go GOCACHE=$build/cache GOBIN=$build/bin CGO_ENABLED=0 \
            GOFLAGS='-buildvcs=false -modcacherw' "$go" install -ldflags='-s -w' "github.com/versity/versitygw/cmd/versitygw@$VERSITYGW") \
            >"$build/log" 2>&1 || { cat "$build/log" >&2; fail "versitygw could not be built"; }
        mv "$build/bin/versitygw" "$server"
        chmod -R u+w "$build" && rm -rf "$build"
    fi
    link "$server" versitygw
}

# The program of tests/go, named by the checksum of its files.
install_go_client() {
    client=$tools/go-$(go_client_sum)
    if [ ! -x "$client" ]; then
        say "building the Go client of the tests (arrow-go, 1 minute)"
        build=$(mktemp -d "$tools/build.XXXXXX")
        go=$(go_command)
        (cd "$root/tests/go" && GOTOOLCHAIN=local GOROOT='' GOPATH=$build/go GOCACHE=$build/cache CGO_ENABLED=0 \
            GOFLAGS='-buildvcs=false -modcacherw -mod=readonly' "$go" build -ldflags='-s -w' -o "$build/client" .) \
            >"$build/log" 2>&1 || { cat "$build/log" >&2; fail "the Go client could not be built"; }
        mv "$build/client" "$client"
        chmod -R u+w "$build" && rm -rf "$build"
    fi
    link "$client" go
}
go_client_sum() { cat "$root/tests/go/go.mod" "$root/tests/go/go.sum" "$root/tests/go/main.go" | cksum | cut -d ' ' -f 1; }

# Tests find each tool under a name without a version.
link() { ln -sfn "$1" "$tools/$2"; }

install_cargo_tool() {
    tool=$tools/$1-$2
    if [ ! -x "$tool" ]; then
        say "building $1 $2"
        build=$(mktemp -d "$tools/build.XXXXXX")
        CARGO_TARGET_DIR=$build/target cargo install --quiet --locked --no-track --root "$build" "$1@$2"
        mv "$build/bin/$1" "$tool"
        rm -rf "$build"
    fi
    link "$tool" "$1"
}

# ----------------------------------------------------------------------------------------------------------------

what=${1:-}
case $what in
    demo | test) ;;
    *) fail "say what for: scripts/setup.sh demo|test" ;;
esac

missing=
{ compiles_c && compiles_cpp && have pkg-config; } || missing="$missing compiler"
has_openssl || missing="$missing openssl"
has_rust || have curl || missing="$missing curl"
if [ "$what" = test ]; then
    has_java || missing="$missing java"
    have mvn || missing="$missing maven"
    has_venv || missing="$missing python"
    { [ -x "$tools/versitygw-$VERSITYGW" ] && [ -x "$tools/go-$(go_client_sum)" ]; } || have go || missing="$missing go"
    chromium_path >/dev/null || missing="$missing chromium"
fi
# shellcheck disable=SC2086
[ -z "$missing" ] || install_system $missing
has_rust || install_rust

if [ "$what" = test ]; then
    has_lints || { have rustup && rustup component add clippy rustfmt; } || fail "cargo clippy and cargo fmt are missing; install them as you installed cargo"
    mkdir -p "$tools"
    install_jars kafka "Apache Kafka (44 MB of jars)"
    install_jars spark "Spark and delta-spark (208 MB of jars)"
    install_jars jdbc "the Flight SQL JDBC driver (45 MB)"
    install_python_packages
    install_s3_server
    install_go_client
    chromium=$(chromium_path) || fail "Chromium was installed but is not found; put it on PATH as chromium or google-chrome"
    link "$chromium" chromium
    install_cargo_tool cargo-deny "$CARGO_DENY"
    install_cargo_tool cargo-machete "$CARGO_MACHETE"
fi
