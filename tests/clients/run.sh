#!/usr/bin/env bash
# Every real client against the server, in each way it is run.
#
#     tests/clients/run.sh BINARY [standalone|password|front]...
#
# Without a mode: all of them. Needs what tests/run.sh installs. Prints the checks that fail, a line
# per client, and at the end `N passed, N failed` over all; the exit code is 1 if any failed.
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
clients=$root/tests/clients
tools=$root/target/test-tools
binary=$1
shift
modes=("$@")
((${#modes[@]} > 0)) || modes=(standalone password front)
# shellcheck source=tests/clients/servers.sh
source "$clients/servers.sh"
export NODE_PATH=$tools/node/node_modules
secret=sesame
passed=0
failed=0

# count NAME COMMAND...: adds what COMMAND counted; dying without a count is one failure.
count() {
    local name=$1 output
    shift
    output=$(timeout 300 "$@" 2>&1)
    printf '%s\n' "$output"
    if [[ $output =~ ([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
        passed=$((passed + BASH_REMATCH[1]))
        failed=$((failed + BASH_REMATCH[2]))
    else
        printf 'FAIL %s ended without its count\n' "$name"
        failed=$((failed + 1))
    fi
}

# every_client PORT [PASSWORD]: SOCKET, if set, is the path of the server's unix socket.
every_client() {
    local unixsocket=()
    [[ -z ${SOCKET:-} ]] || unixsocket=(--unixsocket "$SOCKET")
    count redis-py "$tools/python/bin/python" "$clients/redis_py.py" 127.0.0.1 "$@" \
        "${unixsocket[@]}"
    count ioredis node "$clients/node_ioredis.js" 127.0.0.1 "$@"
    count node-redis node "$clients/node_redis.js" 127.0.0.1 "$@"
    count redis-cli bash "$clients/cli.sh" 127.0.0.1 "$@"
    count redis-benchmark bash "$clients/benchmark.sh" 127.0.0.1 "$@"
}

standalone() {
    local SOCKET=$server_work/standalone.sock
    start_server standalone "$binary" --unixsocket "$SOCKET" || return 1
    every_client "$server_port"
}

password() {
    REDISCLI_AUTH=$secret start_server password "$binary" --requirepass "$secret" || return 1
    every_client "$server_port" "$secret"
}

front() {
    start_redis upstream || return 1
    start_server front "$binary" --upstream "redis://127.0.0.1:$server_port" || return 1
    every_client "$server_port"
}

for mode in "${modes[@]}"; do
    printf '== clients, %s\n' "$mode"
    case $mode in
        standalone | password | front) "$mode" || failed=$((failed + 1)) ;;
        *)
            printf 'no such mode: %s\n' "$mode" >&2
            exit 2
            ;;
    esac
done

printf 'clients: %d passed, %d failed\n' "$passed" "$failed"
((failed == 0))
