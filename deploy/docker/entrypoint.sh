#!/bin/sh
# What a container does: `head`, `worker`, `sweep` (run one, as a job that is repeated until it is done), or any other
# command as it stands. A node that gets SIGTERM drains itself: Ray places nothing new on it, and ends it when nothing runs
# there, after RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S (30) seconds at the latest.
#
# A node of Ray runs whatever it is sent. So head, worker and `ray start` are refused without a token, unless
# GRID_ALLOW_NO_TOKEN=1 says that nobody else reaches this network.
#
#   RAY_AUTH_TOKEN_PATH     the file with the cluster's token; default: /run/secrets/ray_token where there is one
#   RAY_HEAD                where a worker finds the head, HOST:6379
#   GRID_OBJECT_STORE_BYTES memory of the object store, at most that of /dev/shm; default 1 GB
#   GRID_NODE_CPUS          CPUs that a worker offers; default: what it has
#   RAY_REDIS_ADDRESS       HOST:6379 of a Valkey that outlives the head, with GRID_REDIS_PASSWORD_FILE; Ray takes the
#                           password as an argument only, and passes it on as one, so that `ps` on the head shows it
set -eu

fail() {
    echo "entrypoint: $*" >&2
    exit 3
}

require_token() {
    if [ "${GRID_ALLOW_NO_TOKEN:-}" = 1 ]; then
        echo "entrypoint: without a token, as GRID_ALLOW_NO_TOKEN=1 says: whoever reaches this node runs code on it" >&2
        export RAY_AUTH_MODE=disabled
        return
    fi
    [ "${RAY_AUTH_MODE:-}" = token ] || fail "RAY_AUTH_MODE is '${RAY_AUTH_MODE:-}' and must be 'token'"
    [ -z "${RAY_AUTH_TOKEN:-}" ] || return 0
    [ -n "${RAY_AUTH_TOKEN_PATH:-}" ] || fail "no token: name its file with RAY_AUTH_TOKEN_PATH"
    [ -r "$RAY_AUTH_TOKEN_PATH" ] || fail "the token file $RAY_AUTH_TOKEN_PATH cannot be read"
    [ "$(wc -c <"$RAY_AUTH_TOKEN_PATH")" -ge 32 ] || fail "the token in $RAY_AUTH_TOKEN_PATH has less than 32 characters"
}

store="--object-store-memory=${GRID_OBJECT_STORE_BYTES:-1000000000}"
role=${1:-}
if [ -z "${RAY_AUTH_TOKEN_PATH:-}" ] && [ -e /run/secrets/ray_token ]; then
    export RAY_AUTH_TOKEN_PATH=/run/secrets/ray_token
fi
case $role in
head)
    require_token
    shift
    if [ -n "${GRID_REDIS_PASSWORD_FILE:-}" ]; then
        set -- "--redis-password=$(cat "$GRID_REDIS_PASSWORD_FILE")" "$@"
    fi
    exec ray start --head --block --num-cpus=0 --port=6379 --dashboard-host=0.0.0.0 --dashboard-port=8265 \
        --dashboard-agent-listen-port=52365 --metrics-export-port=8080 --temp-dir=/var/lib/ray "$store" "$@"
    ;;
worker)
    require_token
    shift
    [ -n "${RAY_HEAD:-}" ] || fail "RAY_HEAD is not set: the head's HOST:6379"
    if [ -n "${GRID_NODE_CPUS:-}" ]; then
        set -- "--num-cpus=$GRID_NODE_CPUS" "$@"
    fi
    exec ray start --address="$RAY_HEAD" --block --dashboard-agent-listen-port=52365 --metrics-export-port=8080 \
        "$store" "$@"
    ;;
sweep)
    # Failed trials are rows, and no reason to run the job again: exit code 1 is as good as 0 here.
    shift
    code=0
    grid run "$@" || code=$?
    [ "$code" -ne 1 ] || code=0
    exit "$code"
    ;;
ray)
    [ "${2:-}" != start ] || require_token
    exec "$@"
    ;;
*)
    exec "$@"
    ;;
esac
