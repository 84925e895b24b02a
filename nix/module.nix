# services.haven: the library mounted before Immich, and Immich gone when the library is.
{ config, lib, pkgs, options, ... }:
let
  cfg = config.services.haven;
  inherit (lib) mkIf mkOption mkEnableOption mkDefault mkMerge optional types;
  toml = pkgs.formats.toml { };

  # What is not set is not written: haven's own defaults are in haven alone.
  isSet = value: value != null && value != { };
  onlySet = value:
    if lib.isAttrs value then lib.filterAttrs (_: isSet) (lib.mapAttrs (_: onlySet) value) else value;
  written = toml.generate "haven.toml" (onlySet cfg.settings);
  # A setting that haven does not know, or can't be meant, fails the build and not the boot.
  settingsFile =
    if cfg.checkSettings then
      pkgs.runCommand "haven.toml" { } ''
        HOME=$PWD ${cfg.package}/bin/haven --config ${written} config > /dev/null
        cp ${written} $out
      ''
    else
      written;

  point = cfg.settings.mount.point;
  local = config.services;
  immichHere = (options.services ? immich) && local.immich.enable;
  postgresHere = (options.services ? postgresql) && local.postgresql.enable;
  dockerHere = (options ? virtualisation.docker) && config.virtualisation.docker.enable;
  # With the extensions of the server that runs here: a drill's own restores into them.
  postgres = if postgresHere then local.postgresql.finalPackage or local.postgresql.package else pkgs.postgresql;
  # Those of the owner's choice, among settings that hold for all of them.
  tables = setting: lib.filter lib.isAttrs (lib.attrValues setting);
  copies = tables cfg.settings.copy;
  # A service finds what its PATH names, and no more: what the keeper's jobs call.
  called = [ pkgs.util-linux ] # unshare and mount, which show a snapshot to borg and restic
    ++ optional (copies != [ ]) pkgs.openssh
    ++ optional (lib.any (copy: (copy.format or null) != "restic") copies) pkgs.borgbackup
    ++ optional (lib.any (copy: (copy.format or null) == "restic") copies) pkgs.restic
    ++ optional (lib.any (app: (app.kind or null) != "folder") (tables cfg.settings.backup)) postgres
    # backup.NAME.within and compose.
    ++ optional dockerHere config.virtualisation.docker.package;
  bound = {
    bindsTo = [ "haven.service" ];
    after = [ "haven.service" ];
    unitConfig.RequiresMountsFor = [ point ];
  };
  sandbox = {
    NoNewPrivileges = true;
    DevicePolicy = "closed";
    RestrictAddressFamilies = [ "AF_UNIX" "AF_INET" "AF_INET6" "AF_NETLINK" ];
    RestrictNamespaces = true;
    RestrictRealtime = true;
    RestrictSUIDSGID = true;
    LockPersonality = true;
    MemoryDenyWriteExecute = true;
    ProtectClock = true;
    SystemCallArchitectures = "native";
    SystemCallErrorNumber = "EPERM";
    KeyringMode = "private";
    UMask = "0077";
  };
  load = lib.mapAttrsToList (name: file: "${name}:${file}");
  # Secrets that a part of the settings names: systemd = "NAME", at any depth.
  named = part:
    if lib.isAttrs part then
      lib.concatLists (lib.mapAttrsToList (key: value: if key == "systemd" then [ value ] else named value) part)
    else if lib.isList part then lib.concatMap named part
    else [ ];
  # What keeps the service from starting must not keep the alert from telling so.
  telling = lib.filterAttrs (name: _: lib.elem name (named (cfg.settings.alert or { }))) cfg.credentials;
in
{
  options.services.haven = {
    enable = mkEnableOption "Haven, a photo library in a bucket of your own";

    package = mkOption {
      type = types.package;
      default = pkgs.haven or (pkgs.callPackage ./package.nix { });
      defaultText = lib.literalExpression "pkgs.haven";
      description = "The package with the program haven.";
    };

    settings = mkOption {
      type = types.submodule {
        freeformType = types.attrsOf types.anything;
        options = import ./options.nix { inherit lib; };
      };
      default = { };
      description = "haven.toml. Each setting is described as there; secrets have no place here, see credentials.";
      example = lib.literalExpression ''
        {
          library.url = "s3://photos/haven";
          mount = { point = "/mnt/photos"; allow_other = true; };
          cache.size = "100GB";
          store.s3 = { endpoint = "https://s3.example.org"; region = "eu-central-1"; credentials.systemd = "haven-s3"; };
          replica.far.url = "sftp://backup@nas.example.org/haven";
        }
      '';
    };

    checkSettings = mkOption {
      type = types.bool;
      default = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;
      defaultText = lib.literalMD "true, unless built for another platform";
      description = "Let haven read the settings when the system is built.";
    };

    credentials = mkOption {
      type = types.attrsOf types.str;
      default = { };
      example = { haven-passphrase = "/run/secrets/haven-passphrase"; haven-s3 = "/run/secrets/haven-s3"; };
      description = ''
        Secrets, by the name that settings call them (systemd = "NAME"), and the file each is read from by systemd.
        haven-passphrase unlocks the library, unless settings.key says otherwise. Not in the Nix store: everybody reads that.
      '';
    };

    keeper = mkOption {
      type = types.bool;
      default = true;
      description = "Run the keeper (haven run), which does everything on schedule and tells whom settings.alert names; false: the mount alone.";
    };

    immich = {
      enable = mkOption {
        type = types.bool;
        default = immichHere;
        defaultText = lib.literalExpression "config.services.immich.enable";
        description = "Put Immich's files into the library, start it after the mount, and stop it with it.";
      };
      directory = mkOption {
        type = types.str;
        default = "immich";
        description = "Immich's folder in the library. Make it once, on the mounted library, and let the user immich own it.";
      };
    };

    dependents = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "podman-photoprism" ];
      description = "More services that live on the library, without .service: bound to the mount as Immich is.";
    };
  };

  config = mkIf cfg.enable (mkMerge [
    {
      assertions = [
        {
          assertion = cfg.settings.library.url or null != null;
          message = "services.haven.settings.library.url: where is the library? (s3://bucket/prefix)";
        }
        {
          assertion = point != null;
          message = "services.haven.settings.mount.point: where is the library to be mounted?";
        }
        {
          assertion = lib.all (file: !lib.hasPrefix builtins.storeDir file) (lib.attrValues cfg.credentials);
          message = "services.haven.credentials: a secret in the Nix store can be read by everybody; name a file outside";
        }
      ];
      environment.systemPackages = [ cfg.package ];
      environment.etc."haven/haven.toml".source = settingsFile;

      systemd.services = mkMerge [
        {
          haven = {
            description = "Photo library at ${toString point}";
            wantedBy = [ "multi-user.target" ];
            wants = [ "network-online.target" ]
              ++ optional cfg.immich.enable "immich-server.service"
              ++ map (name: "${name}.service") cfg.dependents;
            after = [ "network-online.target" ] ++ optional postgresHere "postgresql.service";
            before = [ "docker.service" ];
            onFailure = optional cfg.keeper "haven-alert@%n.service";
            # Five ends within an hour are a failure that somebody must see, not one more restart.
            startLimitIntervalSec = 3600;
            startLimitBurst = 5;
            restartTriggers = [ settingsFile ];
            path = [ pkgs.fuse3 ] ++ lib.optionals cfg.keeper called;
            serviceConfig = sandbox // {
              Type = "notify";
              NotifyAccess = "main";
              # The bare directory is closed to everybody, so that nothing lands there while nothing is mounted.
              ExecStartPre = "+" + pkgs.writeShellScript "haven-mount-point" ''
                ${pkgs.util-linux}/bin/mountpoint --quiet ${lib.escapeShellArg point} && exit 0
                mkdir -p ${lib.escapeShellArg point} && chmod 0000 ${lib.escapeShellArg point} 2>/dev/null
                ${pkgs.e2fsprogs}/bin/chattr +i ${lib.escapeShellArg point} 2>/dev/null || true
              '';
              ExecStart = "${cfg.package}/bin/haven --config /etc/haven/haven.toml ${if cfg.keeper then "run" else "mount --foreground"}";
              LoadCredential = load cfg.credentials;
              CacheDirectory = "haven";
              CacheDirectoryMode = "0700";
              StateDirectory = "haven";
              StateDirectoryMode = "0700";
              Restart = "on-failure";
              RestartSec = "5s";
              TimeoutStartSec = "10min";
              TimeoutStopSec = if cfg.keeper then "10min" else "infinity";
              KillMode = "mixed";
              # What waits for the bucket is open, and much of the cache: a thousand files may be too few.
              LimitNOFILE = 65536;
              # Nothing here may give it a mount namespace of its own: nobody else would see the mount.
              CapabilityBoundingSet = [ "CAP_SYS_ADMIN" "CAP_DAC_READ_SEARCH" ]
                # For a drill's own PostgreSQL, which refuses to be root.
                ++ lib.optionals cfg.keeper [ "CAP_DAC_OVERRIDE" "CAP_CHOWN" "CAP_FOWNER" "CAP_SETUID" "CAP_SETGID" "CAP_KILL" ];
              # haven copy run shows its snapshot in a mount namespace of its own.
              RestrictNamespaces = if cfg.keeper then "mnt" else true;
              RestrictAddressFamilies = [ "AF_UNIX" "AF_INET" "AF_INET6" ];
              DeviceAllow = "/dev/fuse rw";
              SystemCallFilter = [ "@system-service @mount" "~@resources" ];
            } // lib.optionalAttrs cfg.keeper {
              WatchdogSec = "60s";
              ExecReload = "${pkgs.coreutils}/bin/kill -HUP $MAINPID";
            };
          };
        }
        (mkIf cfg.keeper {
          "haven-alert@" = {
            description = "Tell the owner of the photos that %i failed";
            serviceConfig = sandbox // {
              Type = "oneshot";
              TimeoutStartSec = "5min";
              ExecStart = "${cfg.package}/bin/haven --config /etc/haven/haven.toml alert unit %i";
              LoadCredential = load telling;
              StateDirectory = "haven";
              StateDirectoryMode = "0700";
              KillMode = "mixed";
              CapabilityBoundingSet = [ "CAP_DAC_READ_SEARCH" ];
              ProtectSystem = "strict";
              # What haven.toml names may lie there.
              ProtectHome = "read-only";
              ReadWritePaths = lib.optional ((cfg.settings.schedule.directory or null) != null) "-${toString cfg.settings.schedule.directory}";
              PrivateTmp = true;
              PrivateDevices = true;
              SystemCallFilter = [ "@system-service" ];
            };
          };
        })
        (mkIf cfg.immich.enable { immich-server = bound; })
        (lib.genAttrs cfg.dependents (_: bound))
      ];
    }
    # Asked for by name only where NixOS has it.
    (lib.optionalAttrs (options.services ? immich) (mkIf cfg.immich.enable {
      services.immich.mediaLocation = mkDefault "${point}/${cfg.immich.directory}";
      services.haven.settings.mount.allow_other = mkDefault true;
    }))
  ]);
}
