#!/bin/sh
# Put a workload on a redis-server and check what it holds then against a memory budget; ends with the gate's exit code.
#   workload.sh [SECONDS [OPTIONS OF mem_parser budget...]]
set -eu
seconds=${1:-60}
[ $# -eq 0 ] || shift
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
socket=$folder/redis.sock

mem_profiler run -q -c 64K -o "$folder/ended" -- \
    redis-server --port 0 --unixsocket "$socket" --save '' --appendonly no --dir "$folder" \
    >"$folder/log" &
run=$!
until redis-cli -s "$socket" ping >/dev/null 2>&1; do kill -0 "$run"; sleep 0.05; done

end=$(($(date +%s) + seconds))
while [ "$(date +%s)" -lt "$end" ]; do
    redis-benchmark -s "$socket" -q -n 5000 -r 5000 -d 300 -t set,lpush,hset >/dev/null
    redis-cli -s "$socket" flushall >/dev/null
done
# Before its end: what a server frees as it ends looks like no leak.
server=$(redis-cli -s "$socket" info server | sed -n 's/^process_id:\([0-9]*\).*/\1/p')
mem_profiler snapshot -q --symbolize -o "$folder/redis" "$server"
redis-cli -s "$socket" shutdown nosave 2>/dev/null || true
wait "$run"
mem_parser budget "$here/budget.toml" "$@" "$folder"/redis.*.heap
