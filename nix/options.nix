# Written by nix/generate.py from crates/haven/src/haven.toml: change that, and run it again.
# An option that is not set is not written, and then what stands in haven.toml holds.
{ lib }:
let
  inherit (lib) mkOption types;
  setting = type: default: description: mkOption {
    type = types.nullOr type;
    default = null;
    defaultText = lib.literalMD default;
    inherit description;
  };
  table = description: options: mkOption {
    type = types.submodule { freeformType = types.attrsOf types.anything; inherit options; };
    default = { };
    inherit description;
  };
in
{
  library = table "What stands under [library]." {
    url = setting types.str "none; for example `\"s3://photos/haven\"`" "Where the library is: s3://bucket/prefix, sftp://user@host/path, webdavs://user@host/path or file:///path. Then `haven mount` and all the other commands need no URL. (HAVEN_LIBRARY)";
  };
  key = table "What stands under [key]." {
    passphrase_file = setting types.str "none; for example `\"/etc/haven/passphrase\"`" "How the library is unlocked. Set one of these, in this file or by HAVEN_PASSPHRASE_FILE, HAVEN_KEY_FILE, HAVEN_PASSPHRASE_COMMAND; else a systemd credential called haven-passphrase is looked for, then a terminal is asked. The passphrase itself has no place here.";
    key_file = setting types.str "none; for example `\"/etc/haven/key\"`" "key_file";
    passphrase_command = setting types.str "none; for example `\"pass show haven\"`" "A command whose first line of output is the passphrase, run by /bin/sh.";
  };
  mount = table "What stands under [mount]." {
    point = setting types.str "none; for example `\"/mnt/photos\"`" "Where `haven mount` and `haven up` mount, if the command line does not say. (HAVEN_MOUNTPOINT)";
    fsync = setting types.str "`\"disk\"`" "What fsync waits for: \"disk\" (a power cut loses nothing) or \"bucket\" (the loss of this machine loses nothing).";
    read_only = setting types.bool "`false`" "Never write, whatever happens. Another machine may write meanwhile: its changes appear here.";
    allow_other = setting types.bool "`false`" "Let other users in, subject to the files' permissions. Docker needs this when its user is another. Ordinary users need the line `user_allow_other` in /etc/fuse.conf for it.";
    no_atime = setting types.bool "`true`" "Don't keep access times.";
    writeback_cache = setting types.bool "`false`" "Let the kernel gather small writes: faster for tiny ones, slower for large ones.";
    list_snapshots = setting types.bool "`false`" "List the folder .snapshots in the library's root. It can be entered either way; hidden, no program that walks the library walks every snapshot too.";
    read_ahead = setting types.str "`\"1MiB\"`" "How far the kernel reads ahead.";
    quota = setting types.str "none; for example `\"2TB\"`" "What `df` gives as the size. It limits nothing. Without: what is used, and a good deal more.";
    stop_patience = setting types.str "`\"10s\"`" "How long a stop waits for open files to be closed before it cuts them off.";
  };
  cache = table "What stands under [cache]." {
    directory = setting types.str "none; for example `\"/var/cache/haven/photos\"`" "The directory for local copies and for what is not yet in the bucket: not below the mount point, and one for each library. Default: $CACHE_DIRECTORY under systemd, else below ~/.cache/haven by the library's id. (HAVEN_CACHE)";
    size = setting types.str "`\"10GB\"`" "It never takes more than this, whatever happens. (HAVEN_CACHE_SIZE)";
  };
  upload = table "What stands under [upload]." {
    send_after = setting types.str "`\"1s\"`" "How long changes wait for company before they are sent. The recovery point is at best this far behind.";
    sync_after = setting types.str "`\"1s\"`" "How long changes may be on this machine without being on its disk, where nobody called fsync.";
    packs_max = setting (types.either types.ints.unsigned types.str) "`4`" "Packs on their way at once.";
  };
  snapshots = table "What stands under [snapshots]." {
    keep = setting types.str "none; for example `\"within 1d, daily 7, weekly 4, monthly -1\"`" "What `haven snapshot prune` keeps when it is given no rules, in the words of `borg prune`.";
  };
  gc = table "What stands under [gc]." {
    every = setting types.str "`\"24h\"`" "What no file and no snapshot needs any more is given up by the machine that writes, so often.";
    grace = setting types.str "`\"7d\"`" "How long it stays all the same: longer than any reader or copy may take. States of the library this far back can still be mounted (`haven mount --at`).";
    remember = setting types.str "`\"60d\"`" "How long the library remembers that it gave something up, so that replicas learn of it: longer than any replica is ever left alone.";
    brake = setting (types.either types.float types.ints.unsigned) "`0.2`" "When more than this share of the library would be given up within a day, nothing is, until its owner says so (`haven gc --release`): that is what a mistake or an attack looks like.";
    brake_floor = setting types.str "`\"1GB\"`" "But so much may always go.";
    waste = setting (types.either types.float types.ints.unsigned) "`0.08`" "The share of useless bytes in packs above which they are written anew.";
    pace = setting types.str "`\"0\"`" "Bytes a second that writing anew may move; \"0\" sets no limit.";
  };
  replica = mkOption {
    description = "What stands under [replica], and one table for each name.";
    default = { };
    type = types.submodule {
      freeformType = types.attrsOf (types.submodule {
        freeformType = types.attrsOf types.anything;
        options = {
          grace = setting types.str "`\"14d\"`" "Copies of the library in other places: `haven replica`. What stands here holds for each of them, unless its own table says otherwise. How long a replica keeps what the library has deleted.";
          brake = setting (types.either types.float types.ints.unsigned) "`0.2`" "When more than this share of a replica's bytes would go within a day, nothing does, until its owner says so (`haven replica sync NAME --release-brake`).";
          brake_floor = setting types.str "`\"1GB\"`" "But so much may always go.";
          verify_within = setting types.str "`\"30d\"`" "Every byte of a replica is read again and verified within this time, a part in each run.";
          parallel = setting (types.either types.ints.unsigned types.str) "`8`" "Objects on their way at once. Each takes up to 32 MiB of memory.";
          every = setting types.str "`\"10s\"`" "With --continuous: how often the library is looked at (four requests), how far behind a replica may be before that is told, and how often it is noted on the replica where it stands.";
          lag = setting types.str "`\"1min\"`" "lag";
          note_every = setting types.str "`\"5min\"`" "note_every";
          url = setting types.str "none; for example `\"sftp://backup@nas.example.org/haven\"`" "Where it is: any store that a library can be in.";
          from = setting types.str "none; for example `\"near\"`" "What it is a copy of, if not of library.url: another replica's name, or a URL.";
        };
      });
      options = {
        grace = setting types.str "`\"14d\"`" "Copies of the library in other places: `haven replica`. What stands here holds for each of them, unless its own table says otherwise. How long a replica keeps what the library has deleted.";
        brake = setting (types.either types.float types.ints.unsigned) "`0.2`" "When more than this share of a replica's bytes would go within a day, nothing does, until its owner says so (`haven replica sync NAME --release-brake`).";
        brake_floor = setting types.str "`\"1GB\"`" "But so much may always go.";
        verify_within = setting types.str "`\"30d\"`" "Every byte of a replica is read again and verified within this time, a part in each run.";
        parallel = setting (types.either types.ints.unsigned types.str) "`8`" "Objects on their way at once. Each takes up to 32 MiB of memory.";
        every = setting types.str "`\"10s\"`" "With --continuous: how often the library is looked at (four requests), how far behind a replica may be before that is told, and how often it is noted on the replica where it stands.";
        lag = setting types.str "`\"1min\"`" "lag";
        note_every = setting types.str "`\"5min\"`" "note_every";
      };
    };
  };
  backup = mkOption {
    description = "What stands under [backup], and one table for each name.";
    default = { };
    type = types.submodule {
      freeformType = types.attrsOf (types.submodule {
        freeformType = types.attrsOf types.anything;
        options = {
          quiesce = setting types.str "`\"freeze\"`" "Recovery points: `haven backup`. What stands here holds for each application, unless its own table says otherwise. What makes the application stand still while a point is taken: \"freeze\" (nothing but the file system, for some milliseconds; it keeps running), \"maintenance\" (Immich's own mode, by its API), \"units\", \"compose\" or \"commands\" (it is stopped and started; not for the dump, only for some seconds).";
          keep = setting types.str "none; for example `\"within 1d, daily 7, weekly 4, monthly -1\"`" "What `haven backup prune` keeps when it is given no rules, in the words of `borg prune`.";
          tries = setting (types.either types.ints.unsigned types.str) "`3`" "How often a point is tried when the database changes its shape meanwhile.";
          lock_wait = setting types.str "`\"10s\"`" "How long a table may be locked by somebody else, a migration say: all others who want it wait that long, too.";
          dump_limit = setting types.str "`\"2h\"`" "How long a dump may take: while it does, the database can't clear away old rows, and migrations wait.";
          bucket_wait = setting types.str "`\"1h\"`" "How long is waited until all of a point is in the bucket.";
          kind = setting types.str "none; for example `\"immich\"`" "\"immich\", \"postgres\" (any other application with a PostgreSQL database) or \"folder\" (files alone).";
          folder = setting types.str "none; for example `\"immich\"`" "Its folder, relative to the library's root. Default: all of the library.";
          database = setting types.str "none; for example `\"postgresql:///immich?host=/run/postgresql&user=immich\"`" "Its database, as libpq has it: a URL, \"dbname=immich host=db sslmode=verify-full\", \"service=immich\", or a name. PostgreSQL 14 to 18, directly, not through PgBouncer. The password belongs into ~/.pgpass or PGPASSFILE, not here.";
          programs = setting types.str "none; for example `\"/usr/lib/postgresql/16/bin\"`" "The directory of psql, pg_dump and pg_dumpall. Default: Debian's for this server's version, else those of PATH.";
          within = setting (types.listOf types.str) "none; for example `[\"docker\", \"exec\", \"-i\", \"immich_postgres\"]`" "What goes before each of them, where the server is in a container.";
          media_location = setting types.str "none; for example `\"/usr/src/app/upload\"`" "What the paths in Immich's database begin with, where it does not say so itself (before version 1.136).";
          beside = setting types.str "none; for example `\"/srv/dumps\"`" "A directory outside the library that gets a copy of each dump.";
          server = setting types.str "none; for example `\"http://127.0.0.1:2283\"`" "With \"maintenance\" (Immich 2.3 or later): its address, the file with an administrator's API key that has the permission \"maintenance\", and certificates (PEM) to trust beside the system's.";
          api_key_file = setting types.str "none; for example `\"/etc/haven/immich-admin-key\"`" "api_key_file";
          ca_file = setting types.str "none; for example `\"/etc/haven/ca.pem\"`" "ca_file";
          units = setting (types.listOf types.str) "none; for example `[\"immich-server.service\"]`" "With \"units\": what systemctl is to stop and start, where it runs.";
          compose = setting types.str "none; for example `\"/opt/immich/docker-compose.yml\"`" "With \"compose\": the file, and the services in it that are stopped (the database must go on).";
          services = setting (types.listOf types.str) "none; for example `[\"immich-server\"]`" "services";
          before = setting types.str "none; for example `\"immich-stop\"`" "With \"commands\": what /bin/sh runs before and after. Both must bear being run twice.";
          after = setting types.str "none; for example `\"immich-start\"`" "after";
        };
      });
      options = {
        quiesce = setting types.str "`\"freeze\"`" "Recovery points: `haven backup`. What stands here holds for each application, unless its own table says otherwise. What makes the application stand still while a point is taken: \"freeze\" (nothing but the file system, for some milliseconds; it keeps running), \"maintenance\" (Immich's own mode, by its API), \"units\", \"compose\" or \"commands\" (it is stopped and started; not for the dump, only for some seconds).";
        keep = setting types.str "none; for example `\"within 1d, daily 7, weekly 4, monthly -1\"`" "What `haven backup prune` keeps when it is given no rules, in the words of `borg prune`.";
        tries = setting (types.either types.ints.unsigned types.str) "`3`" "How often a point is tried when the database changes its shape meanwhile.";
        lock_wait = setting types.str "`\"10s\"`" "How long a table may be locked by somebody else, a migration say: all others who want it wait that long, too.";
        dump_limit = setting types.str "`\"2h\"`" "How long a dump may take: while it does, the database can't clear away old rows, and migrations wait.";
        bucket_wait = setting types.str "`\"1h\"`" "How long is waited until all of a point is in the bucket.";
      };
    };
  };
  copy = mkOption {
    description = "What stands under [copy], and one table for each name.";
    default = { };
    type = types.submodule {
      freeformType = types.attrsOf (types.submodule {
        freeformType = types.attrsOf types.anything;
        options = {
          keep = setting types.str "none; for example `\"within 1d, daily 7, weekly 4, monthly -1\"`" "Copies in formats that are not Haven's, made by Borg or restic: `haven copy`. What stands here holds for each of them, unless its own table says otherwise. What `haven copy prune` keeps when it is given no rules, in the words of `borg prune`.";
          prefix = setting types.str "`\"haven-\"`" "What the names of our archives begin with. Only archives that are called so are ever deleted.";
          lock_wait = setting types.str "`\"10min\"`" "How long the lock of another run is waited for.";
          upload_rate_max = setting types.str "`\"0\"`" "Bytes a second; \"0\" sets no limit.";
          download_rate_max = setting types.str "`\"0\"`" "download_rate_max";
          parallel = setting (types.either types.ints.unsigned types.str) "`4`" "How many programs bring a Borg archive back at once. (restic sees to that by itself.)";
          directory = setting types.str "none; for example `\"/var/lib/haven/copies\"`" "Where the programs keep their caches, and Borg its notes and keys: a directory for each copy is made below it. It is also where a library is shown to them, always at the same place. Default: below ~/.local/state/haven/copies, for the keeper as well.";
          format = setting types.str "none; for example `\"borg\"`" "\"borg\" (1.2 to 1.4; 1.2.6 or later is better) or \"restic\" (0.14 or later): the program must be installed.";
          repository = setting types.str "none; for example `\"ssh://backup@nas.example.org/./photos\"`" "As that program names it. Borg: /srv/borg, ssh://user@host/path. restic: /srv/restic, sftp:user@host:/path, rest:https://host/path, s3:https://host/bucket.";
          passphrase_file = setting types.str "none; for example `\"/etc/haven/copy-passphrase\"`" "The repository's passphrase: the first line of a file, or the first that a command prints, run by /bin/sh.";
          passphrase_command = setting types.str "none; for example `\"pass show haven/copy\"`" "passphrase_command";
          environment_file = setting types.str "none; for example `\"/etc/haven/copy-environment\"`" "Lines NAME=VALUE for the program's environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of a copy on S3, say.";
          ssh_key = setting types.str "none; for example `\"/etc/haven/id_ed25519\"`" "For SSH: the key to log in with, and the known hosts. Default: what ssh does by itself.";
          known_hosts = setting types.str "none; for example `\"/etc/haven/known_hosts\"`" "known_hosts";
          program = setting types.str "none; for example `\"/opt/borg/borg\"`" "What the program is called here, and what Borg is called on the other machine.";
          remote_program = setting types.str "none; for example `\"borg1\"`" "remote_program";
          encryption = setting types.str "none; for example `\"repokey-blake2\"`" "Borg: how a new repository is encrypted, and where the key of a \"keyfile\" one is.";
          key_file = setting types.str "none; for example `\"/etc/haven/borg-key\"`" "key_file";
          compression = setting types.str "none; for example `\"auto,zstd\"`" "Borg: \"auto,zstd\", \"none\", … restic: \"auto\", \"off\", \"max\". Default: \"auto,zstd\" and \"auto\".";
          append_only = setting types.bool "none; for example `true`" "The other side lets nothing be deleted: prune there, with a key that may.";
          library = setting types.str "none; for example `\"/mnt/photos\"`" "The mount point of the library that is copied, if not mount.point.";
        };
      });
      options = {
        keep = setting types.str "none; for example `\"within 1d, daily 7, weekly 4, monthly -1\"`" "Copies in formats that are not Haven's, made by Borg or restic: `haven copy`. What stands here holds for each of them, unless its own table says otherwise. What `haven copy prune` keeps when it is given no rules, in the words of `borg prune`.";
        prefix = setting types.str "`\"haven-\"`" "What the names of our archives begin with. Only archives that are called so are ever deleted.";
        lock_wait = setting types.str "`\"10min\"`" "How long the lock of another run is waited for.";
        upload_rate_max = setting types.str "`\"0\"`" "Bytes a second; \"0\" sets no limit.";
        download_rate_max = setting types.str "`\"0\"`" "download_rate_max";
        parallel = setting (types.either types.ints.unsigned types.str) "`4`" "How many programs bring a Borg archive back at once. (restic sees to that by itself.)";
        directory = setting types.str "none; for example `\"/var/lib/haven/copies\"`" "Where the programs keep their caches, and Borg its notes and keys: a directory for each copy is made below it. It is also where a library is shown to them, always at the same place. Default: below ~/.local/state/haven/copies, for the keeper as well.";
      };
    };
  };
  schedule = table "What stands under [schedule]." {
    snapshot = setting types.str "`\"hourly\"`" "What the keeper (`haven run`) does, and when. systemd's calendar words (\"*-*-* 03:00:00\", \"Mon..Fri 02:30\", \"hourly\"), plain ones (\"daily 00:30\", \"every 15m\", \"weekly sun 04:00\", \"monthly 1 05:00\"), or \"off\". A time zone may follow (\"daily 03:00 Europe/Berlin\"). `haven schedule` prints the next five times of each. What is missed is caught up, once. A snapshot, and what `snapshot_keep` does not keep of those that were taken so.";
    snapshot_keep = setting types.str "`\"within 1d, daily 7, weekly 4, monthly 6\"`" "snapshot_keep";
    backup = setting types.str "`\"daily 00:30\"`" "A recovery point of each application ([backup.NAME]), and what its `keep` does not keep.";
    replica = setting types.str "`\"hourly\"`" "Each replica is brought up to date.";
    copy = setting types.str "`\"daily 02:30\"`" "Each third copy: an archive of the newest recovery point, and what its `keep` does not keep.";
    gc = setting types.str "`\"daily 04:30\"`" "What nothing needs any more is given up (and then not every gc.every as well).";
    scrub = setting types.str "`\"weekly sun 05:00\"`" "Names and lengths of all objects are compared with the records, and of the content a share is read: another each time.";
    scrub_share = setting types.str "`\"5%\"`" "scrub_share";
    drill_0 = setting types.str "`\"daily 06:00\"`" "Drills: 0 reads a hundredth of the newest point back, 1 all of it, 2 brings everything back to drill_scratch and to a PostgreSQL of its own. 1 and 2 read every photo from the library and each replica: mind what your stores charge for that.";
    drill_1 = setting types.str "`\"monthly 15 06:00\"`" "drill_1";
    drill_2 = setting types.str "`\"monthly 1 06:00\"`" "drill_2";
    drill_scratch = setting types.str "none; for example `\"/srv/scratch\"`" "Room for all photos of one point. Default: the system's directory for temporary files.";
    report = setting types.str "`\"monthly 1 09:00\"`" "What was kept, how it grew, what was proven: by mail, if there is a channel for it.";
    timezone = setting types.str "none; for example `\"Europe/Berlin\"`" "Default: this machine's.";
    jitter = setting types.str "`\"2min\"`" "Each job waits up to so long after its time, the same each day, so that not all the world asks one store at once.";
    retry = setting types.str "`\"1min\"`" "The first pause after a run that failed; each further one is four times as long, up to an hour.";
    quiet = setting (types.listOf types.str) "none; for example `[\"18:00..23:00\"]`" "Hours in which nothing large is begun (copies, scrubs, drills, garbage): it waits for their end.";
    bandwidth = setting (types.listOf types.str) "none; for example `[\"08:00..22:00 2MB\"]`" "Hours in which no more bytes a second are sent.";
    directory = setting types.str "none; for example `\"/var/lib/haven/keeper\"`" "Where the keeper keeps its ledger, its logs, and what is still to be told. Default: $STATE_DIRECTORY under systemd, for root below /var/lib/haven, else below ~/.local/state/haven, by the library.";
  };
  alert = mkOption {
    description = "What stands under [alert], and one table for each name.";
    default = { };
    type = types.submodule {
      freeformType = types.attrsOf (types.submodule {
        freeformType = types.attrsOf types.anything;
        options = {
          to = setting (types.listOf types.str) "none; for example `[\"me@example.org\"]`" "to";
          otherwise = setting (types.listOf types.str) "none; for example `[\"mail\"]`" "These in the stead of one that fails, in this order.";
          remind = setting types.str "`\"3d\"`" "What is still so is told again after so long.";
          calm = setting types.str "`\"10min\"`" "What is gone must stay gone for so long before that is told.";
          kind = setting types.str "none; for example `\"telegram\"`" "\"telegram\", \"ntfy\", \"email\", \"discord\", \"slack\" (and what speaks like it), \"gotify\", \"webhook\" (any URL, JSON), or \"healthchecks\": a dead-man's switch, which tells you when this machine says nothing any more.";
          least = setting types.str "none; for example `\"warning\"`" "The least that it is told of: \"info\", \"warning\" or \"critical\". Default: \"warning\", and what has recovered.";
          chat = setting types.str "none; for example `\"123456789\"`" "telegram: the chat's number, and the bot's token.";
          url = setting types.str "none; for example `\"https://ntfy.example.org\"`" "ntfy, gotify, webhook, healthchecks: the server. Default: https://ntfy.sh, https://hc-ping.com.";
          topic = setting types.str "none; for example `\"photos\"`" "ntfy: the topic; or, where whoever knows it can read it, the file that holds it.";
          server = setting types.str "none; for example `\"mail.example.org\"`" "email: the mail server, \"implicit\" TLS (465), \"starttls\" (587) or \"none\" (only to this machine), who logs in, from whom, to whom.";
          port = setting (types.either types.ints.unsigned types.str) "none; for example `465`" "port";
          tls = setting types.str "none; for example `\"implicit\"`" "tls";
          user = setting types.str "none; for example `\"photos\"`" "user";
          from = setting types.str "none; for example `\"Haven <haven@example.org>\"`" "from";
          ca_file = setting types.str "none; for example `\"/etc/haven/ca.pem\"`" "Certificates (PEM) to trust beside the system's.";
          prefix = setting types.str "none; for example `\"haven\"`" "prefix";
          token = table "What stands under [alert.NAME.token]." {
            file = setting types.str "none; for example `\"/etc/haven/telegram-token\"`" "file";
            systemd = setting types.str "none; for example `\"haven-telegram-token\"`" "systemd";
          };
          topic_secret = table "What stands under [alert.NAME.topic_secret]." {
            file = setting types.str "none; for example `\"/etc/haven/ntfy-topic\"`" "file";
            systemd = setting types.str "none; for example `\"haven-ntfy-topic\"`" "systemd";
          };
          password = table "What stands under [alert.NAME.password]." {
            file = setting types.str "none; for example `\"/etc/haven/mail-password\"`" "file";
            systemd = setting types.str "none; for example `\"haven-mail-password\"`" "systemd";
          };
          hook = table "What stands under [alert.NAME.hook]." {
            file = setting types.str "none; for example `\"/etc/haven/discord-hook\"`" "discord, slack: the whole URL of the webhook is the secret.";
            systemd = setting types.str "none; for example `\"haven-discord-hook\"`" "systemd";
          };
          key = table "What stands under [alert.NAME.key]." {
            file = setting types.str "none; for example `\"/etc/haven/webhook-key\"`" "webhook: what the body is signed with (HMAC-SHA256).";
            systemd = setting types.str "none; for example `\"haven-webhook-key\"`" "systemd";
          };
          checks = table "What stands under [alert.NAME.checks]." {
            file = setting types.str "none; for example `\"/etc/haven/ping-key\"`" "healthchecks: the project's ping key, or lines `RUN UUID`; and what stands before the kind of run in the checks' names.";
            systemd = setting types.str "none; for example `\"haven-ping-key\"`" "systemd";
          };
        };
      });
      options = {
        to = setting (types.listOf types.str) "none; for example `[\"phone\", \"mail\"]`" "Who is told when something is wrong. `haven alert test` tries it. Default: every channel below.";
        otherwise = setting (types.listOf types.str) "none; for example `[\"mail\"]`" "These in the stead of one that fails, in this order.";
        remind = setting types.str "`\"3d\"`" "What is still so is told again after so long.";
        calm = setting types.str "`\"10min\"`" "What is gone must stay gone for so long before that is told.";
      };
    };
  };
  health = table "What stands under [health]." {
    every = setting types.str "`\"1min\"`" "How often the keeper looks at everything, and from where on something is worth telling (`haven health`).";
    late = setting (types.either types.float types.ints.unsigned) "`1.5`" "A recovery point, replica or copy that is older than so many of its intervals.";
    replica_lag = setting types.str "none; for example `\"2h\"`" "A replica that is further behind than this, whatever its schedule says.";
    disk_full = setting (types.either types.float types.ints.unsigned) "`0.8`" "The disk of the cache: its share that is used, or that it is full within this time if it goes on like this.";
    disk_forecast = setting types.str "`\"24h\"`" "disk_forecast";
    queue_stuck = setting types.str "`\"15min\"`" "Changes wait, and nothing has reached the bucket for so long.";
    store_patience = setting types.str "`\"5min\"`" "The bucket may be in trouble for so long before anybody is told; and the share of requests that may fail.";
    store_errors = setting (types.either types.float types.ints.unsigned) "`0.2`" "store_errors";
    drill_age = setting types.str "`\"35d\"`" "The last drill that read every photo.";
    clock_skew = setting types.str "`\"1min\"`" "This machine's clock beside the store's.";
    expiry = setting types.str "`\"21d\"`" "Before certificates run out.";
  };
  page = table "What stands under [page]." {
    listen = setting types.str "`\"127.0.0.1:8470\"`" "The status page, served by the keeper: an address and port, or \"off\". From elsewhere than this machine only behind a proxy that speaks TLS.";
    url = setting types.str "none; for example `\"https://photos.example.org\"`" "What it is called from outside, where a proxy stands before it.";
    proxy_header = setting types.str "none; for example `\"Remote-User\"`" "A proxy that has found out who asks: its header, and the addresses that it connects from.";
    proxy_from = setting (types.listOf types.str) "none; for example `[\"127.0.0.1/32\"]`" "proxy_from";
    read_only = setting types.bool "`false`" "Look, and do nothing: restoring included.";
    session = setting types.str "`\"12h\"`" "How long a login lasts.";
    price = setting types.str "none; for example `\"0.006 EUR\"`" "What a GB in the bucket costs in a month, for the picture of cost.";
    token = table "What stands under [page.token]." {
      file = setting types.str "none; for example `\"/etc/haven/page-token\"`" "What opens it. Default: the file page-token beside the keeper's ledger, made at the first start.";
      systemd = setting types.str "none; for example `\"haven-page-token\"`" "systemd";
    };
    metrics_token = table "What stands under [page.metrics_token]." {
      file = setting types.str "none; for example `\"/etc/haven/metrics-token\"`" "What Prometheus shows for /metrics. Without it /metrics wants a person who is logged in.";
      systemd = setting types.str "none; for example `\"haven-metrics-token\"`" "systemd";
    };
  };
  log = table "What stands under [log]." {
    level = setting types.str "`\"info\"`" "What goes to stderr, or to the journal under systemd: \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a list such as \"info,haven_store=debug\". No photo's name is written above \"debug\". (HAVEN_LOG)";
  };
  store = table "What stands under [store]." {
    s3 = table "What stands under [store.s3]." {
      endpoint = setting types.str "none; for example `\"https://s3.example.org\"`" "https://host[:port]; AWS itself if nothing says otherwise.";
      region = setting types.str "none; for example `\"eu-central-1\"`" "From AWS_REGION or the profile, else us-east-1.";
      style = setting types.str "`\"auto\"`" "\"path\" (https://host/bucket/key), \"virtual\" (https://bucket.host/key), or \"auto\": path where an endpoint is given.";
      ca_file = setting types.str "none; for example `\"/etc/haven/ca.pem\"`" "Certificates (PEM) to trust beside the system's, for a private authority.";
      payload = setting types.str "`\"unsigned\"`" "\"unsigned\": the body's hash is not part of the signature, which takes a quarter of the CPU; all is sealed anyway. \"signed\": the store refuses what was damaged on the way.";
      checksum = setting types.str "`\"none\"`" "What a body is sent with so that the store can refuse one that was damaged on the way: \"none\", \"md5\" (known to nearly every store), \"crc32c\" (costs nothing, known to newer ones), \"sha256\". `haven doctor` tells which this store checks.";
      lock = setting types.str "none; for example `\"30d\"`" "For how long nobody may delete or replace what was written: S3's Object Lock, on a bucket that was made with it. A thief with your key then only hides objects. What Haven deletes is hidden, too, and is paid for until a lifecycle rule of yours (NoncurrentVersionExpiration) removes it. `haven doctor` tells whether this store's lock holds.";
      lock_mode = setting types.str "`\"governance\"`" "\"governance\": who may (s3:BypassGovernanceRetention) can lift the lock. \"compliance\": nobody can, not even you.";
      storage_class = setting types.str "none; for example `\"STANDARD_IA\"`" "The storage class of new objects, as the store names it.";
      list_page_max = setting (types.either types.ints.unsigned types.str) "none; for example `1000`" "The most names asked for in one page of a listing.";
      credentials = table "What stands under [store.s3.credentials]." {
        profile = setting types.str "none; for example `\"photos\"`" "At most one of these. None: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, then the AWS profile.";
        file = setting types.str "none; for example `\"/etc/haven/s3-key\"`" "file";
        systemd = setting types.str "none; for example `\"haven-s3\"`" "systemd";
        command = setting types.str "none; for example `\"vault-helper s3-key\"`" "command";
      };
    };
    sftp = table "What stands under [store.sftp]." {
      key_file = setting types.str "none; for example `\"/etc/haven/id_ed25519\"`" "For sftp://user@host[:port]/path. The private key to log in with. With none of key, agent and password set: what the agent at SSH_AUTH_SOCK holds, then id_ed25519, id_ecdsa and id_rsa in ~/.ssh.";
      agent = setting types.str "none; for example `\"/run/haven/agent\"`" "The socket of the ssh-agent whose keys to log in with.";
      known_hosts = setting types.str "none; for example `\"/etc/haven/known_hosts\"`" "Where the keys of servers are. Default: ~/.ssh/known_hosts, then /etc/ssh/ssh_known_hosts. A server that is not in there, or has another key, is refused, with its fingerprint and the line to add.";
      fingerprint = setting types.str "none; for example `\"SHA256:uNiVztksCsDhcc0u9e8BrvXP78IXFGPnTfqvCVZJNcM\"`" "Instead of that: the fingerprint of the server's key, as its owner or `ssh-keygen -lf` tells it.";
      connections = setting (types.either types.ints.unsigned types.str) "`2`" "The most connections at once.";
      key_passphrase = table "What stands under [store.sftp.key_passphrase]." {
        file = setting types.str "none; for example `\"/etc/haven/id-passphrase\"`" "The passphrase of the private key: at most one of these; none: HAVEN_SFTP_KEY_PASSPHRASE. The first line counts.";
        systemd = setting types.str "none; for example `\"haven-id-passphrase\"`" "systemd";
        command = setting types.str "none; for example `\"pass show haven/ssh-key\"`" "command";
      };
      password = table "What stands under [store.sftp.password]." {
        file = setting types.str "none; for example `\"/etc/haven/sftp-password\"`" "The password to log in with: at most one of these; none: HAVEN_SFTP_PASSWORD.";
        systemd = setting types.str "none; for example `\"haven-sftp-password\"`" "systemd";
        command = setting types.str "none; for example `\"pass show haven/sftp\"`" "command";
      };
    };
    webdav = table "What stands under [store.webdav]." {
      user = setting types.str "none; for example `\"photos\"`" "For webdavs://[user@]host[:port]/path, and webdav:// without TLS. Who logs in, where the URL does not say.";
      ca_file = setting types.str "none; for example `\"/etc/haven/ca.pem\"`" "Certificates (PEM) to trust beside the system's, for a private authority.";
      password = table "What stands under [store.webdav.password]." {
        file = setting types.str "none; for example `\"/etc/haven/webdav-password\"`" "The password: at most one of these; none: HAVEN_WEBDAV_PASSWORD. The first line counts.";
        systemd = setting types.str "none; for example `\"haven-webdav-password\"`" "systemd";
        command = setting types.str "none; for example `\"pass show haven/webdav\"`" "command";
      };
      token = table "What stands under [store.webdav.token]." {
        file = setting types.str "none; for example `\"/etc/haven/webdav-token\"`" "Or a token (Bearer), instead of user and password; none: HAVEN_WEBDAV_TOKEN.";
        systemd = setting types.str "none; for example `\"haven-webdav-token\"`" "systemd";
        command = setting types.str "none; for example `\"vault-helper webdav-token\"`" "command";
      };
    };
    timeout = table "What stands under [store.timeout]." {
      base = setting types.str "`\"30s\"`" "What every request is given,";
      rate_min = setting types.str "`\"128KiB\"`" "and more for its bytes, at this rate a second.";
      whole_bytes = setting types.str "`\"32MiB\"`" "The length reckoned with where it is not known before.";
    };
    retry = table "What stands under [store.retry]." {
      patience = setting types.str "`\"1min\"`" "For how long after its first try a request may be tried again. (A mount's uploads never give up.)";
      pause_first = setting types.str "`\"100ms\"`" "The first pause is a random part of this, each further one of twice as much, up to the longest.";
      pause_max = setting types.str "`\"10s\"`" "pause_max";
      patient = setting types.bool "`false`" "Whether errors that a person must mend (access, keys, quota) are waited out as well, and how long between tries.";
      setting_interval = setting types.str "`\"5s\"`" "setting_interval";
    };
    limit = table "What stands under [store.limit]." {
      uploads_max = setting (types.either types.ints.unsigned types.str) "`16`" "Uploads, downloads, and requests without a body at once.";
      downloads_max = setting (types.either types.ints.unsigned types.str) "`48`" "downloads_max";
      small_max = setting (types.either types.ints.unsigned types.str) "`32`" "small_max";
      upload_rate_max = setting (types.either types.ints.unsigned types.str) "`0`" "Bytes a second, all together. 0: unlimited.";
      download_rate_max = setting (types.either types.ints.unsigned types.str) "`0`" "download_rate_max";
    };
  };
}
