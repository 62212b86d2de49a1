#!/usr/bin/env bash
# redis-cli against a server: RESP2 and RESP3, --pipe, --scan, --bigkeys, --memkeys, --latency,
# --stat, and inline commands over a bare socket.
#
#     cli.sh HOST PORT [PASSWORD]
#
# Touches only keys that begin with `smoke:cli:`. Prints the checks that fail, then one line
# `N passed, N failed`; the exit code is 1 if any failed.
set -uo pipefail

host=$1
port=$2
password=${3:-}
if [[ -n $password ]]; then
    export REDISCLI_AUTH=$password
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
failed=0

cli() { timeout 30 redis-cli -h "$host" -p "$port" "$@" 2>&1; }

# equal WHAT WANT COMMAND...
equal() {
    local what=$1 want=$2 got
    shift 2
    got=$("$@")
    if [[ $got == "$want" ]]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAIL redis-cli: %s: got %q, want %q\n' "$what" "${got:0:300}" "$want"
    fi
}

# matches WHAT REGEX COMMAND...: the output has a match of the extended regular expression.
matches() {
    local what=$1 want=$2 got
    shift 2
    got=$("$@" | tr '\r' '\n')
    if [[ $got =~ $want ]]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAIL redis-cli: %s: no match of %q in %q\n' "$what" "$want" "${got:0:300}"
    fi
}

remove_keys() {
    cli --scan --pattern 'smoke:cli:*' | xargs -r -n 500 redis-cli -h "$host" -p "$port" unlink \
        >/dev/null
}

commands() { # -2 | -3
    local mode=$1
    equal "$mode PING" PONG cli "$mode" ping
    equal "$mode SET" OK cli "$mode" set smoke:cli:a 41
    equal "$mode GET" 41 cli "$mode" get smoke:cli:a
    equal "$mode INCR" 42 cli "$mode" incr smoke:cli:a
    equal "$mode GET of an absent key" "" cli "$mode" get smoke:cli:absent
    equal "$mode nil, spelt out" "(nil)" cli "$mode" --no-raw get smoke:cli:absent
    equal "$mode integer, spelt out" "(integer) 42" cli "$mode" --no-raw incrby smoke:cli:a 0
    equal "$mode MSET" OK cli "$mode" mset smoke:cli:m1 1 smoke:cli:m2 2
    equal "$mode MGET" $'1) "1"\n2) (nil)\n3) "2"' \
        cli "$mode" --no-raw mget smoke:cli:m1 smoke:cli:absent smoke:cli:m2
    equal "$mode SET EX" OK cli "$mode" set smoke:cli:t v ex 100
    matches "$mode TTL" '^(99|100)$' cli "$mode" ttl smoke:cli:t
    equal "$mode DEL" 2 cli "$mode" del smoke:cli:m1 smoke:cli:m2
    equal "$mode SET -x" OK cli "$mode" -x set smoke:cli:q < <(printf 'a\0\r\n"b')
    equal "$mode quoting" '"a\x00\r\n\"b"' cli "$mode" --no-raw get smoke:cli:q
    equal "$mode an error" "ERR value is not an integer or out of range" \
        cli "$mode" incr smoke:cli:t
    equal "$mode an unknown command" \
        "ERR unknown command 'nosuch', with args beginning with: 'a' " cli "$mode" nosuch a
    equal "$mode from standard input" $'OK\nQUEUED\nQUEUED\nOK\n43\nPONG' \
        cli "$mode" < <(printf '%s\n' multi 'set smoke:cli:x 42' 'incr smoke:cli:x' exec ping)
    matches "$mode INFO" 'redis_version:7\.' cli "$mode" info server
    matches "$mode CLIENT LIST" "id=[0-9]+ addr=.* cmd=client[|]list" cli "$mode" client list
    matches "$mode CONFIG GET" $'^maxmemory[ \n][0-9]+$' cli "$mode" config get maxmemory
    matches "$mode COMMAND DOCS" 'summary' cli "$mode" command docs get
    equal "$mode -n 1" "" cli "$mode" -n 1 get smoke:cli:a
    equal "$mode -r 3" $'PONG\nPONG\nPONG' cli "$mode" -r 3 ping
}

shapes() {
    matches "RESP3 HELLO is a map" '# "proto" => \(integer\) 3' cli -3 --no-raw hello
    matches "RESP3 CONFIG GET is a map" '1# "maxmemory" => "[0-9]+"' \
        cli -3 --no-raw config get maxmemory
    equal "RESP3 nil" "(nil)" cli -3 --no-raw get smoke:cli:absent
    matches "JSON output" '^[{]"maxmemory-policy":"[a-z-]+"[}]$' \
        cli -3 --json config get maxmemory-policy
}

scan_count() { cli --scan --pattern 'smoke:cli:pipe:*' | sort -u | wc -l; }

big_value() { cli get smoke:cli:big | head -c 1048576 | cmp - "$work/big"; }

bulk() {
    local index name
    for ((index = 0; index < 5000; index++)); do
        name=smoke:cli:pipe:$index
        printf '*3\r\n%s\r\nSET\r\n%s\r\n%s\r\n%s\r\nvalue\r\n' \
            "\$3" "\$${#name}" "$name" "\$5"
    done >"$work/pipe"
    matches "--pipe of 5000" 'errors: 0, replies: 5000' cli --pipe <"$work/pipe"
    printf 'SET smoke:cli:inline 1\r\nINCR smoke:cli:inline\r\n' >"$work/inline"
    matches "--pipe of inline commands" 'errors: 0, replies: 2' cli --pipe <"$work/inline"
    equal "--scan finds them all" 5000 scan_count
    matches "--bigkeys" 'Biggest string found .* bytes' cli --bigkeys
    matches "--bigkeys counts" '[0-9]+ strings with [0-9]+ bytes' cli --bigkeys
    matches "--memkeys" '[0-9]+ strings with [0-9]+ bytes' cli --memkeys
    head -c 1048576 /dev/urandom >"$work/big"
    equal "a value of 1 MiB is stored" OK cli -x set smoke:cli:big <"$work/big"
    equal "and comes back the same" "" big_value
}

# These two run until they are stopped; without stdbuf a pipe would see nothing of --stat.
latency() { timeout 1.5 redis-cli -h "$host" -p "$port" --raw --latency -i 1; }

stat() {
    timeout 10 stdbuf -oL redis-cli -h "$host" -p "$port" --stat -i 0.3 2>&1 | head -n 4
}

watching() {
    matches "--latency" '^[0-9]+ [0-9]+ [0-9.]+ [0-9]+' latency
    local line='[0-9]+ +[0-9.]+[BKMG] +[0-9]+'
    matches "--stat" "keys +mem +clients.*"$'\n'"$line.*"$'\n'"$line" stat
}

# Speaks to the bare socket. Every reply line is read before the next one is asked for.
inline() {
    local line
    exec 3<>"/dev/tcp/$host/$port" || return 1
    if [[ -n $password ]]; then
        printf 'AUTH %s\r\n' "$password" >&3
        IFS= read -r -t 5 line <&3
    fi
    printf 'PING\r\nSET smoke:cli:n "a b\\x41"\nGET smoke:cli:n\r\n\r\nNOSUCH\r\n' >&3
    for _ in 1 2 3 4 5; do
        IFS= read -r -t 5 line <&3 || break
        printf '%s\n' "${line%$'\r'}"
    done
    printf 'QUIT\r\n' >&3
    IFS= read -r -t 5 line <&3
    printf '%s\n' "${line%$'\r'}"
    IFS= read -r -t 5 line <&3 || printf 'closed\n'
    exec 3>&-
}

# An unbalanced quote is a protocol error: one reply, and the connection is closed.
unbalanced() {
    local line
    exec 3<>"/dev/tcp/$host/$port" || return 1
    printf 'GET "x\r\n' >&3
    IFS= read -r -t 5 line <&3
    printf '%s\n' "${line%$'\r'}"
    IFS= read -r -t 5 line <&3 || printf 'closed\n'
    exec 3>&-
}

remove_keys
commands -2
commands -3
shapes
bulk
watching
equal "inline commands" "+PONG
+OK
\$4
a bA
-ERR unknown command 'NOSUCH', with args beginning with: 
+OK
closed" inline
equal "unbalanced quotes" $'-ERR Protocol error: unbalanced quotes in request\nclosed' unbalanced
if [[ -n $password ]]; then
    equal "no password" "NOAUTH Authentication required." env -u REDISCLI_AUTH \
        redis-cli -h "$host" -p "$port" ping
    matches "a wrong password" 'WRONGPASS' env REDISCLI_AUTH=wrong \
        bash -c "redis-cli -h '$host' -p '$port' ping 2>&1"
fi
remove_keys

printf 'redis-cli: %d passed, %d failed\n' "$passed" "$failed"
((failed == 0))
