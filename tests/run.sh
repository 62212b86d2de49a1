#!/usr/bin/env bash
# The test command: everything that can be tested on one Debian machine, as root or with sudo.
#
#     bash tests/run.sh
#
# Installs what is missing (Debian packages; redis-py and the Node clients under
# target/test-tools/, pinned in tests/clients/), runs `cargo test --workspace`, the interleavings of
# the near cache and of loads under a scheduler of their own, events of Kafka (which builds librdkafka, a
# minute or two), and then the real clients against the server.
# Servers run on free ports and are ended; nothing else is touched.
# The last line is `N passed, N failed`. A missing tool and an ignored test are failures.
#
# CORRAL_BIN: the server the clients talk to (default: the debug build).
# CORRAL_COHERENCE_SECONDS: how long each scenario of tests/coherence lasts (default: 3).
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1
tools=$root/target/test-tools
target=${CARGO_TARGET_DIR:-$root/target}
passed=0
failed=0

fail() {
    printf 'FAIL %s\n' "$*"
    failed=$((failed + 1))
}

finish() {
    printf '%d passed, %d failed\n' "$passed" "$failed"
    ((failed == 0))
    exit
}

have() { command -v "$1" >/dev/null 2>&1; }

missing_packages() {
    have redis-server || echo redis-server
    have redis-cli && have redis-benchmark || echo redis-tools
    compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || have postgres || echo postgresql
    [[ -x /usr/sbin/mariadbd ]] || have mariadbd || echo mariadb-server
    have tclsh || echo tcl
    have dpkg-source || echo dpkg-dev
    have cc || echo build-essential
    have python3 || echo python3
    have python3 && python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    have node || echo nodejs
    have npm || echo npm
}

# Debian's servers start themselves on their ports when they are installed and at each boot. They are
# kept from both here, and only here: a server that was installed before is the user's.
install_packages() {
    local sudo=() policy=/usr/sbin/policy-rc.d status=0 ours=false
    if ((EUID != 0)); then
        have sudo || {
            printf 'missing: %s; run as root or install sudo\n' "$*"
            return 1
        }
        sudo=(sudo)
    fi
    printf '== installing %s\n' "$*"
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null || return 1
        "${sudo[@]}" chmod 755 "$policy"
        ours=true
    fi
    "${sudo[@]}" apt-get update -qq \
        && "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends "$@" >/dev/null || status=1
    if $ours; then
        "${sudo[@]}" rm -f "$policy"
    fi
    if have systemctl; then
        for package in redis-server postgresql mariadb-server; do
            [[ " $* " == *" $package "* ]] || continue
            "${sudo[@]}" systemctl disable --quiet "${package%-server}.service" 2>/dev/null
            "${sudo[@]}" systemctl disable --quiet "$package.service" 2>/dev/null
        done
    fi
    return "$status"
}

# Each stamp is a copy of the pins that are installed.
install_clients() {
    if ! cmp -s tests/clients/requirements.txt "$tools/python/stamp"; then
        printf '== installing redis-py\n'
        rm -rf "$tools/python"
        python3 -m venv "$tools/python" \
            && "$tools/python/bin/pip" install -q --disable-pip-version-check \
                -r tests/clients/requirements.txt \
            && cp tests/clients/requirements.txt "$tools/python/stamp" || return 1
    fi
    if ! cmp -s tests/clients/package-lock.json "$tools/node/stamp"; then
        printf '== installing ioredis and node-redis\n'
        rm -rf "$tools/node"
        mkdir -p "$tools/node"
        cp tests/clients/package.json tests/clients/package-lock.json "$tools/node/"
        npm ci --prefix "$tools/node" --no-audit --no-fund --silent \
            && cp tests/clients/package-lock.json "$tools/node/stamp" || return 1
    fi
}

# rust_tests NAME ARGUMENT...: cargo test with these arguments; its log is called NAME.
rust_tests() {
    local log=$tools/$1.log status counts counted_passed counted_failed ignored
    shift
    printf '== cargo test %s\n' "$*"
    cargo test "$@" --no-fail-fast 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    counts=$(awk '/^test result:/ { p += $4; f += $6; i += $8 } END { print p+0, f+0, i+0 }' "$log")
    read -r counted_passed counted_failed ignored <<<"$counts"
    passed=$((passed + counted_passed))
    failed=$((failed + counted_failed))
    if ((status != 0 && counted_failed == 0)); then
        fail "cargo test $*: exit code $status"
    fi
    if ((counted_passed + counted_failed == 0)); then
        fail "cargo test $*: there was no test"
    fi
    if ((ignored > 0)); then
        fail "$ignored tests are ignored: a test runs or is removed"
    fi
}

client_tests() {
    local log=$tools/clients.log binary=${CORRAL_BIN:-} status line
    if [[ -z $binary ]]; then
        cargo build --bin corral || {
            fail "cargo build"
            return
        }
        binary=$target/debug/corral
    fi
    bash tests/clients/run.sh "$binary" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    line=$(grep '^clients: ' "$log")
    if [[ $line =~ ^clients:\ ([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
        passed=$((passed + BASH_REMATCH[1]))
        failed=$((failed + BASH_REMATCH[2]))
        if ((status != 0 && BASH_REMATCH[2] == 0)); then
            fail "the client runs: exit code $status"
        fi
    else
        fail "the client runs ended without their count"
    fi
}

mkdir -p "$tools"
if ! have cargo; then
    fail "no cargo: install Rust from https://rustup.rs"
    finish
fi
mapfile -t packages < <(missing_packages)
if ((${#packages[@]} > 0)); then
    install_packages "${packages[@]}" || fail "could not install ${packages[*]}"
    mapfile -t packages < <(missing_packages)
    ((${#packages[@]} == 0)) || fail "still missing: ${packages[*]}"
fi
install_clients || fail "could not install the client libraries"
((failed == 0)) || finish
rust_tests cargo-test --workspace
rust_tests interleavings --lib --features shuttle tests::interleavings
rust_tests kafka --test events --features kafka kafka
client_tests
finish
