#!/bin/sh
# Put a workload on a redis-server that runs under a memory budget; ends with the gate's exit code.
#   workload.sh [SECONDS [OPTIONS OF mem_profiler run...]]
set -eu
seconds=${1:-20}
[ $# -eq 0 ] || shift
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
socket=$folder/redis.sock

mem_profiler run --budget "$here/budget.toml" -o "$folder/redis" "$@" -- \
    redis-server --port 0 --unixsocket "$socket" --save '' --appendonly no --dir "$folder" \
    >"$folder/log" &
gate=$!
until redis-cli -s "$socket" ping >/dev/null 2>&1; do kill -0 "$gate"; sleep 0.05; done

end=$(($(date +%s) + seconds))
while [ "$(date +%s)" -lt "$end" ]; do
    redis-benchmark -s "$socket" -q -n 5000 -r 5000 -d 300 -t set,lpush,hset >/dev/null
    redis-cli -s "$socket" flushall >/dev/null
done
redis-cli -s "$socket" shutdown nosave 2>/dev/null || true
wait "$gate"
