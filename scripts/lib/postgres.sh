# shellcheck shell=bash disable=SC2034
# A PostgreSQL of a script's own, after `. lib.sh`: on a unix socket alone, ended with the script.
#   postgres_start      sets PG_DIR, PG_BIN, and PG_DB NAME gives how libpq reaches a database in it

postgres_start() {
  local bin data as=() pid
  for bin in /usr/lib/postgresql/*/bin; do [ -x "$bin/initdb" ] && PG_BIN=$bin; done
  [ -n "${PG_BIN:-}" ] || die "no PostgreSQL server: install the package postgresql"
  # Short: a socket's path has 107 bytes.
  PG_DIR=$(mktemp -d /tmp/haven-pg.XXXXXX); at_exit rm -rf --one-file-system "$PG_DIR"
  data=$PG_DIR/data
  if [ "$(id -u)" = 0 ]; then chown postgres: "$PG_DIR"; as=(setpriv --reuid postgres --regid postgres --clear-groups); fi
  (cd "$PG_DIR" && "${as[@]}" "$PG_BIN/initdb" -A trust -U postgres -E UTF8 --locale=C.UTF-8 --no-sync -D "$data") >"$SCRATCH/initdb.log" 2>&1 ||
    { cat "$SCRATCH/initdb.log" >&2; die "initdb"; }
  (cd "$PG_DIR" && exec "${as[@]}" "$PG_BIN/postgres" -D "$data" -k "$PG_DIR" -c listen_addresses= -c max_connections=60 "$@") >"$SCRATCH/postgres.log" 2>&1 & pid=$!
  at_exit postgres_end "$pid"
  wait_until 30 "$PG_BIN/pg_isready" -q -h "$PG_DIR" || { cat "$SCRATCH/postgres.log" >&2; die "PostgreSQL does not answer"; }
}
postgres_end() { kill -QUIT "$1" 2>/dev/null; wait "$1" 2>/dev/null || true; }
PG_DB() { echo "host=$PG_DIR user=postgres dbname=$1"; }
sql() { "$PG_BIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 -d "$(PG_DB "$1")" -c "$2"; }
immich_database() { # immich_database NAME: with the tables of v3 that say something about files
  sql postgres "CREATE DATABASE \"$1\""
  "$PG_BIN/psql" -X -q -v ON_ERROR_STOP=1 -d "$(PG_DB "$1")" -f "$ROOT/crates/testkit/src/immich/v3.sql" >/dev/null
}

# Debian's psycopg2 is the system's Python's; another python3 may come first in the path.
if ! python3 -c 'import psycopg2' 2>/dev/null && /usr/bin/python3 -c 'import psycopg2' 2>/dev/null; then
  mkdir -p "$SCRATCH/python" && ln -sf /usr/bin/python3 "$SCRATCH/python/python3"
  PATH=$SCRATCH/python:$PATH
fi
