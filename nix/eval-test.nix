# What the module makes of a configuration, looked at without building anything. With nixpkgs' lib alone:
#     nix-instantiate --eval --strict -E 'import ./nix/eval-test.nix { lib = import ./lib; pkgs = null; }'
{ lib, pkgs }:
let
  inherit (lib) mkOption types;
  any = mkOption { type = types.anything; default = { }; };
  # The few things of NixOS and nixpkgs that the module touches.
  stub = { config, ... }: {
    options = {
      assertions = mkOption { type = types.listOf types.anything; default = [ ]; };
      environment.systemPackages = mkOption { type = types.listOf types.anything; default = [ ]; };
      environment.etc = any;
      systemd.services = mkOption { type = types.attrsOf (types.submodule { freeformType = types.attrsOf types.anything; }); default = { }; };
      services.immich = { enable = mkOption { type = types.bool; default = false; }; mediaLocation = mkOption { type = types.str; default = "/var/lib/immich"; }; };
      services.postgresql = { enable = mkOption { type = types.bool; default = false; }; package = mkOption { default = "/postgresql-here"; }; };
      virtualisation.docker = { enable = mkOption { type = types.bool; default = false; }; package = mkOption { default = "/docker"; }; };
    };
    config._module.args.pkgs = {
      formats.toml = _: { generate = _: value: { inherit value; outPath = "/nix/store/x-haven.toml"; }; };
      stdenv = { buildPlatform.canExecute = _: false; hostPlatform = { }; };
      writeShellScript = name: _: "/nix/store/x-${name}";
      haven = { type = "derivation"; name = "haven"; outPath = "/nix/store/x-haven"; };
      fuse3 = "/fuse3"; util-linux = "/util-linux"; e2fsprogs = "/e2fsprogs"; coreutils = "/coreutils";
      openssh = "/openssh"; borgbackup = "/borg"; restic = "/restic"; postgresql = "/postgresql";
    };
  };
  evaluated = own: (lib.evalModules { modules = [ ./module.nix stub own ]; }).config;
  base = {
    services.haven = {
      enable = true;
      settings.library.url = "s3://photos/haven";
      settings.mount.point = "/mnt/photos";
      credentials.haven-passphrase = "/run/secrets/haven";
    };
  };
  config = evaluated (lib.recursiveUpdate base {
    services.immich.enable = true;
    services.postgresql.enable = true;
    services.haven.dependents = [ "photoprism" ];
    services.haven.settings.gc.brake = 0.3;
    services.haven.settings.replica.far.url = "sftp://nas/haven";
    services.haven.settings.replica.far.grace = "30d";
    services.haven.settings.replica.lag = "5min";
    services.haven.settings.something_newer.than = "this";
  });
  plain = evaluated base;
  holds = config: lib.all (one: one.assertion) config.assertions;
  fails = own: !(builtins.tryEval (builtins.deepSeq (evaluated own).environment.etc true)).success;
  unit = config.systemd.services.haven;
  alone = (evaluated (lib.recursiveUpdate base { services.haven.keeper = false; })).systemd.services.haven.serviceConfig;
  # Plain data is compared; nothing of it may be null, for nothing that is not set is written.
  settings = config.environment.etc."haven/haven.toml".source.value;
  expected = {
    library.url = "s3://photos/haven";
    mount = { point = "/mnt/photos"; allow_other = true; };
    gc.brake = 0.3;
    replica = { lag = "5min"; far = { url = "sftp://nas/haven"; grace = "30d"; }; };
    something_newer.than = "this";
  };
  tests = {
    "only what is set is written" = settings == expected;
    "a good configuration passes its assertions" = holds config && holds plain;
    "without a place for the library it does not" =
      !holds (evaluated { services.haven = { enable = true; settings.mount.point = "/mnt/photos"; }; });
    "a secret in the store is refused" = !holds (evaluated (lib.recursiveUpdate base {
      services.haven.credentials.haven-passphrase = "${builtins.storeDir}/abc";
    }));
    "a wrong type is refused" = fails (lib.recursiveUpdate base { services.haven.settings.mount.read_only = "maybe"; });
    "the mount waits for network and database" =
      unit.after == [ "network-online.target" "postgresql.service" ] && lib.elem "network-online.target" unit.wants;
    "Immich stops with the mount" =
      config.systemd.services.immich-server.bindsTo == [ "haven.service" ]
      && config.systemd.services.immich-server.after == [ "haven.service" ]
      && config.systemd.services.immich-server.unitConfig.RequiresMountsFor == [ "/mnt/photos" ]
      && lib.elem "immich-server.service" unit.wants;
    "so does what else lives there" = config.systemd.services.photoprism.bindsTo == [ "haven.service" ];
    "Immich's files are in the library" = config.services.immich.mediaLocation == "/mnt/photos/immich";
    "without Immich nothing is said of it" =
      !(plain.systemd.services ? immich-server) && plain.services.immich.mediaLocation == "/var/lib/immich";
    "secrets come from files" = unit.serviceConfig.LoadCredential == [ "haven-passphrase:/run/secrets/haven" ];
    "who tells of a failure needs no other secret than its own" =
      (evaluated (lib.recursiveUpdate base {
        services.haven.credentials.ntfy = "/run/secrets/ntfy";
        services.haven.settings.alert.phone = { kind = "ntfy"; token.systemd = "ntfy"; };
      })).systemd.services."haven-alert@".serviceConfig.LoadCredential == [ "ntfy:/run/secrets/ntfy" ]
      && plain.systemd.services."haven-alert@".serviceConfig.LoadCredential == [ ];
    "the keeper is what runs, and its failure is told" =
      lib.hasSuffix " run" unit.serviceConfig.ExecStart && unit.onFailure == [ "haven-alert@%n.service" ]
      && config.systemd.services ? "haven-alert@";
    "it can be the mount alone" = lib.hasSuffix " mount --foreground" alone.ExecStart;
    "a third copy can be made by the keeper, and who makes none makes no namespace" =
      unit.serviceConfig.RestrictNamespaces == "mnt" && alone.RestrictNamespaces == true
      && config.systemd.services."haven-alert@".serviceConfig.RestrictNamespaces == true;
    "the keeper's jobs find what they call, and nothing is there that nobody calls" =
      (evaluated (lib.recursiveUpdate base {
        services.postgresql.enable = true;
        virtualisation.docker.enable = true;
        services.haven.settings.copy = { lock_wait = "1min"; home.repository = "/srv/borg"; far = { format = "restic"; repository = "/srv/restic"; }; };
        services.haven.settings.backup = { tries = 5; immich.kind = "immich"; };
      })).systemd.services.haven.path == [ "/fuse3" "/util-linux" "/openssh" "/borg" "/restic" "/postgresql-here" "/docker" ]
      && (evaluated (lib.recursiveUpdate base {
        services.haven.settings.copy.far = { format = "restic"; repository = "/srv/restic"; };
        services.haven.settings.backup = { immich.kind = "immich"; papers.kind = "folder"; };
      })).systemd.services.haven.path == [ "/fuse3" "/util-linux" "/openssh" "/restic" "/postgresql" ]
      && plain.systemd.services.haven.path == [ "/fuse3" "/util-linux" ];
    "the mount alone calls nobody" =
      (evaluated (lib.recursiveUpdate base { services.haven.keeper = false; })).systemd.services.haven.path == [ "/fuse3" ];
    "nothing hides the mount" = lib.all (key: !(unit.serviceConfig ? ${key})) [
      "ProtectSystem" "ProtectHome" "PrivateTmp" "PrivateDevices" "PrivateMounts" "ProtectKernelTunables" "DynamicUser"
    ];
    "switched off it does nothing" = (evaluated { }).systemd.services == { };
  };
  failed = lib.attrNames (lib.filterAttrs (_: well: !well) tests);
  verdict = if failed == [ ] then "${toString (lib.length (lib.attrNames tests))} hold" else throw "not so: ${lib.concatStringsSep "; " failed}";
in
if pkgs == null then verdict else pkgs.runCommand "haven-module" { } "echo ${lib.escapeShellArg verdict} > $out"
