# shellcheck shell=bash disable=SC2034
# After lib.sh and postgres.sh: a library with an Immich at work in it, and recovery points of it.
#   immich_at_work SECONDS POINTS [COMMAND]   sets MNT, URL, POINT (the newest), ALL_POINTS, HAVEN_CONFIG; the writer has
#                                             ended. COMMAND is run before the writer starts, and AFTER_POINT after each point

immich_at_work() {
  local seconds=$1 points=$2 folder writer n; shift 2
  ALL_POINTS=()
  MNT=$SCRATCH/mnt
  postgres_start; immich_database immich
  use_dir_store bucket
  export HAVEN_CONFIG=$SCRATCH/haven.toml
  cat >"$HAVEN_CONFIG" <<END
[library]
url = "$URL"
[mount]
point = "$MNT"
[backup.immich]
kind = "immich"
folder = "immich"
database = "$(PG_DB immich)"
[replica.near]
url = "$SCRATCH/near"
END
  new_library "$URL"; mount_start "$URL" "$MNT" "$SCRATCH/cache"
  mkdir -p "$MNT"/immich/{upload,library,profile,thumbs,encoded-video,backups}
  for folder in "$MNT"/immich/*; do date +%s%3N | tr -d '\n' >"$folder/.immich"; done
  "${@:-true}"
  python3 "$LIB/immichlike.py" --media "$MNT/immich" --database "$(PG_DB immich)" --workers 6 --rate "${RATE:-300}" \
    --fsync 0 >"$SCRATCH/writer" 2>&1 & writer=$!
  at_exit end_process "$writer" 10
  for ((n = 1; n <= points; n++)); do
    sleep "$((seconds / points))"
    "$HAVEN" backup run --json >"$SCRATCH/one" 2>"$SCRATCH/one.err" || { cat "$SCRATCH/one" "$SCRATCH/one.err" >&2; die "point $n"; }
    ALL_POINTS+=("$(json_get point <"$SCRATCH/one")")
    ${AFTER_POINT:-true} "${ALL_POINTS[-1]}" || die "after point $n"
  done
  POINT=$(json_get point <"$SCRATCH/one")
  kill -TERM "$writer"; wait "$writer" || { cat "$SCRATCH/writer" >&2; die "the writer"; }
}

# json_get PATH...: values of a JSON on stdin, `files.bytes` say.
json_get() {
  python3 -c '
import json, sys
value = json.load(sys.stdin)
for path in sys.argv[1:]:
    found = value
    for part in path.split("."):
        found = found[int(part) if part.isdigit() else part]
    print(len(found) if isinstance(found, list) else found)' "$@"
}
