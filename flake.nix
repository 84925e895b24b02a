{
  description = "Haven: a folder whose every byte lives in an S3 bucket of yours, made for photo libraries";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      each = make: nixpkgs.lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
    in
    {
      packages = each (pkgs: rec {
        haven = pkgs.callPackage ./nix/package.nix { };
        default = haven;
      });
      overlays.default = final: _: { haven = final.callPackage ./nix/package.nix { }; };
      nixosModules = rec {
        haven = ./nix/module.nix;
        default = haven;
      };
      checks = each (pkgs: {
        package = self.packages.${pkgs.stdenv.hostPlatform.system}.haven;
        machine = pkgs.testers.runNixOSTest (import ./nix/vm-test.nix { module = self.nixosModules.haven; });
        module = import ./nix/eval-test.nix { inherit (pkgs) lib; inherit pkgs; };
      });
    };
}
