# Sourced by the scripts of the examples and of the tests: installs what is missing, and stops what was started.
# shellcheck shell=bash

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

fail() {
    echo "$0: $*" >&2
    exit 1
}

# packages COMMAND=PACKAGE[,PACKAGE]…: installs the Debian packages whose commands are not there.
packages() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} = 0 ] || install_packages "${missing[@]//,/ }"
}

install_packages() {
    local as_root=() list
    read -ra list <<<"$*"
    command -v apt-get >/dev/null || fail "please install what Debian calls: ${list[*]}"
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || fail "please install, as root: apt-get install ${list[*]}"
        as_root=(sudo)
    fi
    # RUNLEVEL=1: a server that comes in a package is not started; what we need of it we start ourselves.
    as_root+=(env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -qq -o Dpkg::Use-Pty=0)
    echo "Installing ${list[*]} (apt-get) …"
    # The lists of packages are only fetched where there are none, or old ones.
    "${as_root[@]}" install --no-install-recommends -y "${list[@]}" </dev/null >/dev/null 2>&1 && return
    "${as_root[@]}" update </dev/null >/dev/null || echo "apt-get update failed; trying with the lists that are there." >&2
    "${as_root[@]}" install --no-install-recommends -y "${list[@]}" </dev/null >/dev/null ||
        fail "apt-get cannot install ${list[*]}"
}

# python_packages FOLDER FILE: installs what FILE names into a virtual environment in FOLDER, once.
python_packages() {
    packages python3=python3
    cmp -s "$2" "$1/installed.txt" && return
    python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv
    echo "Installing $(grep -v '^#' "$2" | tr '\n' ' ')into $1 (pip) …"
    rm -rf "$1"
    python3 -m venv "$1"
    "$1/bin/pip" install --quiet --disable-pip-version-check --requirement "$2" || fail "pip cannot install what $2 names"
    cp "$2" "$1/installed.txt"
}

# What it takes to build: a Rust toolchain, a C compiler and cmake, for the C libraries of some crates.
toolchain() {
    command -v cargo >/dev/null || fail "there is no Rust toolchain here: https://rustup.rs installs one"
    packages cmake=cmake cc=gcc,libc6-dev make=make
}

# The program: the one that $SUNGRAZER names, or this repository's, built if need be.
build() {
    [ -z "${SUNGRAZER:-}" ] || return 0
    toolchain
    echo "Building Sungrazer (the first time takes some minutes) …" >&2
    cargo build --release --locked --manifest-path "$root/Cargo.toml"
    SUNGRAZER=${CARGO_TARGET_DIR:-$root/target}/release/sungrazer
}

# A folder for what the programs say. It goes with the script, unless something failed.
scratch=
make_scratch() {
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/sungrazer-$1.XXXXXX")
}

# start NAME COMMAND…: starts a program in the background; what it says goes to $scratch/NAME. It is stopped when the
# script ends, however it ends.
started=()
start() {
    local name=$1
    shift
    "$@" >"$scratch/$name" 2>&1 </dev/null &
    started+=($!)
}

stop_all() {
    local code=$? at
    trap - EXIT INT TERM
    # The last one first: nobody is to miss what it stands on.
    for ((at = ${#started[@]} - 1; at >= 0; at--)); do
        kill "${started[$at]}" 2>/dev/null || true
        wait "${started[$at]}" 2>/dev/null || true
    done
    [ -z "$scratch" ] || [ $code = 1 ] || rm -rf "$scratch"
}
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

listens() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# vacant PORT NAME: nobody listens there yet.
vacant() {
    ! listens "$1" || fail "port $1 is taken: set $2 to another one"
}

# up NAME PORT: waits until what was started last, as NAME, listens.
up() {
    local deadline=$((SECONDS + 60))
    until listens "$2"; do
        still_runs "$1"
        [ $SECONDS -lt $deadline ] || fail "$1 does not listen on port $2; it said: $(tail -n 5 "$scratch/$1")"
        sleep 0.1
    done
}

still_runs() {
    kill -0 "${started[-1]}" 2>/dev/null || fail "$1 does not start; it said: $(tail -n 5 "$scratch/$1")"
}

# sidecar CONFIG URL: starts Sungrazer in front of URL, and says where. LISTEN and ADMIN choose other addresses.
sidecar() {
    start sungrazer "$SUNGRAZER" run -c "$1" --upstream "$2" --listen "${LISTEN:-127.0.0.1:8080}" \
        --admin "${ADMIN:-127.0.0.1:9090}"
    local deadline=$((SECONDS + 60))
    until ready=$(grep '^sungrazer ready' "$scratch/sungrazer"); do
        still_runs sungrazer
        [ $SECONDS -lt $deadline ] || fail "sungrazer does not become ready"
        sleep 0.1
    done
    echo "polled:  $2/   (what it is asked: $scratch/$3)"
    echo "pushed:  $(sed 's/.*listen=\([^ ,]*\).*/\1/' <<<"$ready")/"
    echo "$ready"
    echo "Ctrl-C stops everything."
}

# Waits until one of the programs ends, or somebody stops them all.
stay() {
    wait -n "${started[@]}" || true
    fail "one of the programs has ended; what they said is in $scratch"
}
