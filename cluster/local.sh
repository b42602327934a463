#!/usr/bin/env bash
# A Ray cluster of two nodes on this machine, with token authentication: what `maskray submit` talks to, for trying out.
#
#   cluster/local.sh start    start head and worker; prints what to export and where to submit
#   cluster/local.sh status   nodes and resources
#   cluster/local.sh stop     stop them (these two, by process id; other clusters are left alone)
#
# Environment: CLUSTER_FOLDER (logs, token, process ids), GCS_PORT, DASHBOARD_PORT, CPUS_PER_NODE, MEMORY_PER_NODE (bytes
# of each node's object store).
set -euo pipefail

FOLDER=${CLUSTER_FOLDER:-${TMPDIR:-/tmp}/maskray-cluster-$(id -u)}
GCS_PORT=${GCS_PORT:-6379}
DASHBOARD_PORT=${DASHBOARD_PORT:-8265}
CPUS=${CPUS_PER_NODE:-2}
MEMORY=${MEMORY_PER_NODE:-500000000}
BIN=$(cd "$(dirname "$0")/.." && pwd)/.venv/bin
if [ -x "$BIN/ray" ]; then PATH="$BIN:$PATH"; fi

# The mode has to be said on every side: left out, head and clients may decide differently.
export PATH RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$FOLDER/token" RAY_USAGE_STATS_ENABLED=0

running() { [ -f "$FOLDER/$1.pid" ] && kill -0 "$(cat "$FOLDER/$1.pid")" 2>/dev/null; }

launch() { # name, arguments of ray start
    local name=$1
    shift
    # --block: the process stays the parent of its node, so one signal to one process id ends the node.
    nohup ray start --block --num-cpus="$CPUS" --object-store-memory="$MEMORY" "$@" >"$FOLDER/$name.log" 2>&1 </dev/null &
    echo $! >"$FOLDER/$name.pid"
}

start() {
    if running head; then
        echo "error: already running in $FOLDER; stop it first" >&2
        exit 1
    fi
    mkdir -p "$FOLDER"
    chmod 700 "$FOLDER"
    (umask 077 && python3 -c 'import secrets; print(secrets.token_hex(32))' >"$FOLDER/token")
    # Each node has its own range of worker ports, and a free port for its agent: with the defaults two nodes of one
    # machine, or another cluster there, get in each other's way, and jobs find "no available agent". And its own
    # folder: in a common one, a node that unpacks what came with a job takes it away from under the other.
    launch head --head --node-ip-address=127.0.0.1 --port="$GCS_PORT" --dashboard-host=127.0.0.1 \
        --dashboard-port="$DASHBOARD_PORT" --dashboard-agent-listen-port=0 --temp-dir="$FOLDER/ray" \
        --min-worker-port=20000 --max-worker-port=20999
    await "head" "$FOLDER/head.log"
    launch worker --address="127.0.0.1:$GCS_PORT" --node-ip-address=127.0.0.1 --dashboard-agent-listen-port=0 \
        --temp-dir="$FOLDER/ray2" --min-worker-port=21000 --max-worker-port=21999
    await "worker" "$FOLDER/worker.log"
    cat <<EOF
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$FOLDER/token
maskray submit JOB.yaml --address http://127.0.0.1:$DASHBOARD_PORT --set output=/absolute/folder --wait
EOF
}

await() { # name, log: until ray start says that the node is up
    for _ in $(seq 480); do # where other programs keep the cores busy, minutes
        if grep -qs "Ray runtime started" "$2"; then return; fi
        if ! running "$1"; then break; fi
        sleep 0.5
    done
    echo "error: the $1 did not start; the end of $2:" >&2
    tail -n 20 "$2" >&2
    stop
    exit 1
}

stop() {
    for name in worker head; do
        if running "$name"; then
            local pid
            pid=$(cat "$FOLDER/$name.pid")
            kill "$pid"
            for _ in $(seq 40); do
                if ! kill -0 "$pid" 2>/dev/null; then break; fi
                sleep 0.25
            done
        fi
        rm -f "$FOLDER/$name.pid"
    done
}

case "${1:-}" in
start) start ;;
stop) stop ;;
status) ray status --address="127.0.0.1:$GCS_PORT" ;;
*)
    sed -n '2,9p' "$0" | sed 's/^# \{0,1\}//'
    exit 2
    ;;
esac
