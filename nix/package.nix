# The programs haven and haven-rescue, with manual pages and completions.
{ lib, rustPlatform, pkg-config, cmake, installShellFiles, fuse3, stdenv }:
rustPlatform.buildRustPackage {
  pname = "haven";
  version = (lib.importTOML ../Cargo.toml).workspace.package.version;
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [ ../Cargo.toml ../Cargo.lock ../crates ];
  };
  cargoLock.lockFile = ../Cargo.lock;
  cargoBuildFlags = [ "-p" "haven" "-p" "haven-rescue" ];
  nativeBuildInputs = [ pkg-config cmake installShellFiles rustPlatform.bindgenHook ];
  buildInputs = [ fuse3 ];
  # The tests mount, start servers and want root; scripts/test runs them.
  doCheck = false;
  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    HOME=$TMPDIR $out/bin/haven man man1
    installManPage man1/*.1
    installShellCompletion --cmd haven \
      --bash <($out/bin/haven completions bash) --zsh <($out/bin/haven completions zsh) --fish <($out/bin/haven completions fish)
  '';
  meta = {
    description = "A folder whose every byte lives in an S3 bucket of yours, made for photo libraries";
    license = with lib.licenses; [ mit asl20 ];
    mainProgram = "haven";
    platforms = lib.platforms.linux;
  };
}
