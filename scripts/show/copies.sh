# shellcheck shell=bash disable=SC2034
# For the shows of copies in foreign formats: a mounted library with photos, an SSH server on loopback, and two copies of
# it, "home" by Borg over SSH and "far" in restic's format over SFTP.

need borg restic sshd python3 sha1sum
need_root "a library is shown to borg and restic at one place by a mount"
MNT=$SCRATCH/mnt
export HAVEN_CONFIG=$SCRATCH/haven.toml BORG_CACHE=$SCRATCH/by-hand

# photos DIR COUNT KB: files of noise, in folders as Immich's.
photos() {
  python3 - "$1" "$2" "$3" <<'P'
import os, random, sys
root, count, kb = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
dice = random.Random(root + str(count))
for n in range(count):
    name = f"{dice.getrandbits(64):016x}"
    folder = f"{root}/upload/{name[:2]}/{name[2:4]}"
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/{name}.jpg", "wb") as file:
        file.write(dice.randbytes(int(kb * 1024 * dice.uniform(0.5, 1.5))))
P
}

# sums DIR: a line for each file, by content.
sums() { (cd "$1" && find . -type f -not -path './.snapshots*' -print0 | sort -z | xargs -0 -r sha1sum); }

value() { python3 -c 'import json,sys; print(json.loads(sys.stdin.readlines()[-1] if sys.argv[2:] else sys.stdin.read())[sys.argv[1]])' "$@"; }

# An SSH server on loopback, and the passphrase of the copies.
begin_vault() {
  at_exit "$ROOT/scripts/servers/sftp" down "$SCRATCH/ssh"
  SSH_PORT=$(free_port)
  "$ROOT/scripts/servers/sftp" up "$SCRATCH/ssh" "$SSH_PORT" >/dev/null
  head -c 24 /dev/urandom | base64 >"$SCRATCH/copy-passphrase"; chmod 600 "$SCRATCH/copy-passphrase"
  BORG_URL=ssh://$(id -un)@127.0.0.1:$SSH_PORT$SCRATCH/vault/borg
  mkdir -p "$SCRATCH/vault"
}

# copy_tables: the settings of both copies.
copy_tables() {
  cat <<C
[copy]
keep = "within 1d, daily 7, weekly 4, monthly -1"
directory = "$SCRATCH/copies"
lock_wait = "2s"
[copy.home]
repository = "$BORG_URL"
passphrase_file = "$SCRATCH/copy-passphrase"
ssh_key = "$SCRATCH/ssh/client_key"
known_hosts = "$SCRATCH/ssh/known_hosts"
[copy.far]
format = "restic"
repository = "sftp://$(id -un)@127.0.0.1:$SSH_PORT/$SCRATCH/vault/restic"
passphrase_file = "$SCRATCH/copy-passphrase"
ssh_key = "$SCRATCH/ssh/client_key"
known_hosts = "$SCRATCH/ssh/known_hosts"
C
}

# begin_copies: library, mount, server, settings; the repositories are not made yet.
begin_copies() {
  use_dir_store library
  begin_vault
  { printf '[mount]\npoint = "%s"\n' "$MNT"; copy_tables; } >"$HAVEN_CONFIG"
  new_library "$URL"
  mount_start "$URL" "$MNT" "$SCRATCH/cache" "$@"
}

# The real programs, by hand and on the vault's side, with nothing of Haven's.
real_borg() {
  BORG_BASE_DIR=$SCRATCH/by-hand BORG_PASSCOMMAND="cat $SCRATCH/copy-passphrase" BORG_RELOCATED_REPO_ACCESS_IS_OK=yes \
    BORG_REPO=$SCRATCH/vault/borg borg "$@"
}
# The same over SSH, from this side.
real_borg_over_ssh() {
  BORG_BASE_DIR=$SCRATCH/by-hand-ssh BORG_PASSCOMMAND="cat $SCRATCH/copy-passphrase" BORG_RELOCATED_REPO_ACCESS_IS_OK=yes \
    BORG_RSH="ssh -o BatchMode=yes -i $SCRATCH/ssh/client_key -o UserKnownHostsFile=$SCRATCH/ssh/known_hosts" BORG_REPO=$BORG_URL borg "$@"
}
real_restic() {
  restic -r "$SCRATCH/vault/restic" --password-file "$SCRATCH/copy-passphrase" --cache-dir "$SCRATCH/by-hand-restic" "$@"
}
