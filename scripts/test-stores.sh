#!/usr/bin/env bash
# Starts real stores on loopback and runs the store crate's tests for servers on them.
#
#   scripts/test-stores.sh [garage] [ceph] [sftp] [webdav]      all if none is named
#
# A store whose programs are not installed is named and counts as failed: nothing is skipped quietly.
set -uo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d) failed=()
[ $# -gt 0 ] || set -- garage ceph sftp webdav
port=$((20000 + RANDOM % 10000))
trap 'for s in garage ceph; do [ -d "$work/$s" ] && scripts/servers/"$s" down "$work/$s"; done; rm -rf "$work"' EXIT

for store in "$@"; do
  case $store in garage | ceph | sftp | webdav) ;; *) echo "test-stores: no store \"$store\"; garage, ceph, sftp or webdav" >&2; exit 2 ;; esac
  port=$((port + 10))
  echo "== $store"
  if [ "$store" = sftp ] || [ "$store" = webdav ]; then
    # Their tests start a server each. Those on sshd and Apache are part of every `cargo test`; here nginx and rclone, too.
    cargo test -p haven-store --test all -- --include-ignored "$store::" || failed+=("$store")
    continue
  fi
  if ! environment=$(scripts/servers/"$store" up "$work/$store" "$port" haven other); then
    failed+=("$store"); continue
  fi
  (
    eval "$environment"
    reader=$(scripts/servers/"$store" key "$work/$store" reader read) || exit 1
    export HAVEN_TEST_S3_URL=s3://haven HAVEN_TEST_S3_OTHER=s3://other HAVEN_TEST_S3_HONOURS=$store
    if [ "$store" = ceph ]; then
      scripts/servers/ceph locked "$work/ceph" locked || exit 1
      export HAVEN_TEST_S3_LOCKED=s3://locked
    fi
    HAVEN_TEST_S3_READER=$(sed -n 's/.*ACCESS_KEY_ID=\([^ ]*\).*/\1/p' <<<"$reader") || exit 1
    HAVEN_TEST_S3_READER+=" $(sed -n 's/.*SECRET_ACCESS_KEY=\([^ ]*\).*/\1/p' <<<"$reader")"
    export HAVEN_TEST_S3_READER
    cargo test -p haven-store --test all -- --ignored --nocapture servers::
  ) || failed+=("$store")
done

if [ ${#failed[@]} -gt 0 ]; then echo "test-stores: failed: ${failed[*]}" >&2; exit 1; fi
echo "test-stores: $* passed"
