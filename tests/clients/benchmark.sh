#!/usr/bin/env bash
# redis-benchmark against a server: no warning, no error, and a rate for every test.
#
#     benchmark.sh HOST PORT [PASSWORD]
#
# REQUESTS (default 100000) is how many requests each test sends. redis-benchmark has its own key
# names (`key:…`, `counter:…`, `mylist`), so the server should not be one with data of value.
set -uo pipefail

host=$1
port=$2
password=${3:-}
requests=${REQUESTS:-100000}
arguments=(-h "$host" -p "$port" -q -n "$requests" -r 100000)
[[ -z $password ]] || arguments+=(-a "$password")
passed=0
failed=0

# rates WHAT COUNT ARGUMENTS...: prints COUNT rates and nothing else.
rates() {
    local what=$1 want=$2 output status lines
    shift 2
    output=$(timeout 300 redis-benchmark "${arguments[@]}" "$@" 2>&1 | tr '\r' '\n')
    status=${PIPESTATUS[0]}
    # What is drawn over while a test runs, and the empty lines around it, are not output.
    output=$(grep -vE '^ *$|: rps=[0-9.]+ \(overall|rps=nan' <<<"$output")
    lines=$(grep -cE ': [0-9.]+ requests per second, p50=[0-9.]+ msec *$' <<<"$output")
    if [[ $status == 0 && $lines == "$want" && $(wc -l <<<"$output") == "$want" ]]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAIL redis-benchmark: %s: status %s, wanted %s lines of rates:\n%s\n' \
            "$what" "$status" "$want" "$output"
    fi
}

rates "pipelined" 6 -t ping,set,get,incr,mset -P 16
# redis-benchmark knows no test of this name, but sends any command it is given.
rates "pipelined MGET" 1 -P 16 mget key:__rand_int__ key:__rand_int__ key:__rand_int__
rates "one at a time" 3 -t set,get,incr -n $((requests / 5))
rates "1 KiB values, 200 clients" 2 -t set,get -d 1024 -c 200 -P 4
rates "RESP3" 2 -t set,get -P 16 -3
rates "two threads" 2 -t set,get -P 16 --threads 2

printf 'redis-benchmark: %d passed, %d failed\n' "$passed" "$failed"
((failed == 0))
