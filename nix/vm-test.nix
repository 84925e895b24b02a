# A whole machine: the library is mounted at boot, the application on it comes and goes with it, and a kill costs nothing.
{ module }:
{
  name = "haven";
  nodes.machine = { pkgs, ... }: {
    imports = [ module ];
    services.haven = {
      enable = true;
      settings = {
        library.url = "file:///var/lib/library";
        mount = { point = "/mnt/photos"; allow_other = true; };
        key.key_file = "/var/lib/haven-key";
      };
      dependents = [ "application" ];
    };
    # Stands where Immich stands: it refuses to start on a bare directory, as Immich does without its .immich files.
    systemd.services.application = {
      script = "test -e /mnt/photos/.application && exec ${pkgs.coreutils}/bin/sleep infinity";
      wantedBy = [ "multi-user.target" ];
    };
    # The first start has no library yet.
    systemd.services.haven.wantedBy = pkgs.lib.mkForce [ ];
    systemd.services.application.unitConfig.ConditionPathExists = "/var/lib/haven-key";
  };
  testScript = ''
    machine.wait_for_unit("multi-user.target")
    machine.succeed("head -c 64 /dev/urandom > /var/lib/haven-key && chmod 600 /var/lib/haven-key")
    machine.succeed("haven init file:///var/lib/library --key-file /var/lib/haven-key --recovery-key-file /root/kit.html")
    machine.succeed("systemctl start haven")
    machine.succeed("mountpoint /mnt/photos && echo 1 > /mnt/photos/.application && echo photo > /mnt/photos/a.jpg && sync")
    machine.succeed("systemctl start application")

    with subtest("what lives on the library stops with it, and comes back with it"):
        machine.succeed("systemctl kill --signal=KILL haven")
        machine.wait_until_succeeds("systemctl is-active haven application && grep photo /mnt/photos/a.jpg")
        machine.succeed("systemctl stop haven")
        machine.fail("systemctl is-active application")

    with subtest("nobody writes into the bare directory"):
        machine.fail("mountpoint /mnt/photos")
        machine.fail("touch /mnt/photos/x")

    with subtest("a machine that was switched off has everything"):
        machine.succeed("systemctl start haven && echo more > /mnt/photos/b.jpg && sync /mnt/photos/b.jpg")
        machine.crash()
        machine.start()
        machine.succeed("systemctl start haven && grep more /mnt/photos/b.jpg")

    with subtest("no more open than a mount must be"):
        machine.succeed("systemd-analyze security --threshold=47 haven.service")
  '';
}
