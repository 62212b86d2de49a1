# shellcheck shell=bash
# Sourced by the scripts that need servers: starts them on free ports of 127.0.0.1, each in the
# background with its output in a file, and ends them, and only them, when the script exits.

server_work=$(mktemp -d)
server_pids=()
server_names=()
trap stop_servers EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A port nobody listens on now. Between this and the server's bind another process may take it;
# start_server then reports the server as dead rather than talk to a stranger.
free_port() {
    python3 - <<'PYTHON'
import socket

with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    print(listener.getsockname()[1])
PYTHON
}

# start_server NAME COMMAND...: runs COMMAND with `--port N` added and waits until it answers PING.
# Sets `server_port`; the output is in $server_work/NAME.log. REDISCLI_AUTH, if set, is used.
start_server() {
    local name=$1 pid variable
    local -a without=()
    shift
    # CORRAL_… variables of the tests are no settings.
    for variable in $(compgen -e CORRAL_); do
        without+=(-u "$variable")
    done
    server_port=$(free_port) || return 1
    env "${without[@]}" "$@" --port "$server_port" >"$server_work/$name.log" 2>&1 </dev/null &
    pid=$!
    server_pids+=("$pid")
    server_names+=("$name")
    for _ in {1..200}; do
        if ! kill -0 "$pid" 2>/dev/null; then
            break
        fi
        if [[ $(redis-cli -h 127.0.0.1 -p "$server_port" ping 2>/dev/null) == PONG ]]; then
            return 0
        fi
        sleep 0.05
    done
    printf 'FAIL %s does not answer PING on port %s; its output:\n' "$name" "$server_port" >&2
    tail -n 20 "$server_work/$name.log" >&2
    return 1
}

# start_redis NAME ARGUMENTS...: redis-server without persistence, with what the Tcl suite needs.
start_redis() {
    local name=$1
    shift
    start_server "$name" redis-server --save '' --dir "$server_work" --enable-debug-command yes \
        --enable-protected-configs yes --enable-module-command yes "$@"
}

# Ends every server. One that was gone already, that does not end within ten seconds, or whose exit
# code tells of a crash makes the script fail.
stop_servers() {
    local status=$? index pid code
    set +e
    for pid in "${server_pids[@]}"; do
        kill "$pid" 2>/dev/null
    done
    for index in "${!server_pids[@]}"; do
        pid=${server_pids[index]}
        for _ in {1..200}; do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.05
        done
        kill -KILL "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
        code=$?
        # 143: ended by the signal itself.
        if ((code != 0 && code != 143)); then
            printf 'FAIL server %s ended with code %s; its output:\n' \
                "${server_names[index]}" "$code" >&2
            tail -n 20 "$server_work/${server_names[index]}.log" >&2
            status=1
        fi
    done
    rm -rf "$server_work"
    exit "$status"
}
