#!/usr/bin/env bash
# Redis 7.0.15's own Tcl suite against the server at HOST PORT, compared with what is known not
# to pass.
#
#     tests/conformance/run.sh HOST PORT standalone|passthrough|front [--fast]
#
# standalone: the units of what the server holds itself. passthrough: the whole suite, for a front
# without a near cache; front: the same for one with it. Their upstream is a redis-server with
# `--enable-debug-command yes --enable-protected-configs yes --enable-module-command yes`. --fast
# leaves out the tests tagged slow.
#
# MODE.expected lists the tests that may fail, `unit<TAB>test<TAB>reason`. A failure that is not
# listed fails the run, and so does a listed test that passes (its line is to be deleted), unless it
# is said to do so now and then.
#
# CORRAL_CONFORMANCE is the folder with tcl_suite.py and get_suite.sh (default
# ../shared/conformance from the project's root); TCL_SUITE the unpacked suite (default: fetched
# once, from Debian's source package, into target/test-tools/tcl).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
conformance=${CORRAL_CONFORMANCE:-$root/../shared/conformance}
tools=$root/target/test-tools
standalone_units=(
    unit/type/string unit/type/incr unit/expire unit/scan unit/keyspace unit/bitops unit/bitfield
    unit/protocol unit/quit unit/querybuf unit/slowlog unit/multi unit/info-command
)

if (($# < 3)); then
    printf 'usage: %s HOST PORT standalone|passthrough|front [--fast]\n' "$0" >&2
    exit 2
fi
host=$1
port=$2
mode=$3
options=("${@:4}")
case $mode in
    standalone) units=("${standalone_units[@]}") ;;
    passthrough | front) units=() ;;
    *)
        printf 'no such mode: %s\n' "$mode" >&2
        exit 2
        ;;
esac
if [[ ! -f $conformance/tcl_suite.py ]]; then
    printf 'no tcl_suite.py in %s: set CORRAL_CONFORMANCE\n' "$conformance" >&2
    exit 2
fi
if [[ -z ${TCL_SUITE:-} ]]; then
    bash "$conformance/get_suite.sh" "$(mkdir -p "$tools/tcl" && cd "$tools/tcl" && pwd)"
    export TCL_SUITE=$tools/tcl/redis-src
fi

results=$tools/conformance/$mode
rm -rf "$results"
mkdir -p "$results/logs"
# A run that ends early leaves no results.json, which compare.py would miss.
python3 "$conformance/tcl_suite.py" "$host" "$port" ${units[@]+"${units[@]}"} \
    ${options[@]+"${options[@]}"} --save "$results/results.json" --logdir "$results/logs"
python3 "$root/tests/conformance/compare.py" "$results/results.json" \
    "$conformance/tcl_baseline.json" "$root/tests/conformance/$mode.expected" \
    ${units[@]+"${units[@]}"} ${options[@]+"${options[@]}"}
