//! What systemd itself says of our units. Where it is not installed nothing is said; `scripts/test` installs it.

use std::{fs, path::Path, process::Command};

use haven_units::ours::{Credential, Setup};

/// The exposure that a mount in the host's own mount namespace may have at most, times ten (`systemd-analyze security`).
const EXPOSURE_MAX: u32 = 47;

fn units(keeper: bool, into: &Path) -> Vec<String> {
    let setup = Setup {
        // Verified as well: that what is run is there.
        program: "/bin/true".into(),
        config: "/etc/haven/haven.toml".into(),
        point: Some("/mnt/photos".into()),
        keeper,
        alerts: true,
        state: Some("/srv/my keeper".into()),
        credentials: vec![
            Credential {
                name: "haven-passphrase".into(),
                file: "/etc/haven/passphrase".into(),
                encrypted: false,
                tells: false,
            },
            Credential {
                name: "haven-s3".into(),
                file: "/etc/credstore.encrypted/haven-s3".into(),
                encrypted: true,
                tells: true,
            },
        ],
        environment: Some("/etc/haven/environment".into()),
        applications: vec!["immich-server.service".into()],
        docker: true,
        after: vec!["postgresql.service".into()],
    };
    fs::write(into.join("immich-server.service"), "[Service]\nExecStart=/bin/true\n").unwrap();
    let files = setup.files();
    for (name, text) in &files {
        let path = into.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    // A template is verified as one of its instances.
    fs::rename(into.join("haven-alert@.service"), into.join("haven-alert@x.service")).unwrap();
    vec!["haven.service".into(), "haven-alert@x.service".into(), "immich-server.service".into()]
}

fn analyze(args: &[&str], directory: &Path) -> Option<(bool, String)> {
    let done = Command::new("systemd-analyze")
        .args(args)
        .current_dir(directory)
        .env("SYSTEMD_UNIT_PATH", format!("{}:", directory.display()))
        .output();
    let done = done.ok()?;
    let text = String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout);
    Some((done.status.success(), text))
}

#[test]
fn systemd_has_nothing_to_say_against_our_units() {
    for keeper in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let names = units(keeper, directory.path());
        for name in &names {
            let path = directory.path().join(name).display().to_string();
            let Some((_, said)) = analyze(&["verify", "--man=no", "--recursive-errors=no", &path], directory.path())
            else {
                return;
            };
            // It ends well on keys it does not know, so what it says counts, and not how it ends.
            let about_ours: Vec<&str> =
                said.lines().filter(|line| names.iter().any(|name| line.contains(name))).collect();
            assert!(about_ours.is_empty(), "keeper {keeper}: {about_ours:#?}");
        }
        fs::write(directory.path().join("haven.service"), "[Service]\nExecStart=/bin/true\nKilMode=mixed\n").unwrap();
        let path = directory.path().join("haven.service").display().to_string();
        let (_, said) = analyze(&["verify", "--man=no", "--recursive-errors=no", &path], directory.path()).unwrap();
        assert!(said.contains("KilMode"), "this test would see a mistake: {said}");
    }
}

#[test]
fn the_mount_is_no_more_exposed_than_a_mount_must_be_and_the_alert_much_less() {
    let directory = tempfile::tempdir().unwrap();
    units(true, directory.path());
    for (name, most) in [("haven.service", EXPOSURE_MAX), ("haven-alert@x.service", 30)] {
        let path = directory.path().join(name).display().to_string();
        let threshold = format!("--threshold={most}");
        let Some((well, said)) =
            analyze(&["security", "--offline=true", "--no-pager", &threshold, &path], directory.path())
        else {
            return;
        };
        assert!(well, "{name} is above {most}\n{said}");
        eprintln!("{}", said.lines().last().unwrap_or_default());
    }
}

#[test]
fn the_units_of_the_package_are_those_for_every_machine() {
    let setup = Setup::of_a_package(true, true);
    for (name, text) in setup.files() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/debian").join(&name);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let there = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(there, text, "{}: UPDATE=1 cargo test -p haven-units writes it anew", name.display());
    }
}
