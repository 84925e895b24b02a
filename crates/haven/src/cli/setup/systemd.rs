//! `haven setup systemd`: units that mount the library, tell of failures, and tie Immich to it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use haven_units::{
    Finding, Tree,
    audit::{Scope, audit},
    ours::{Credential, MARK, Setup},
};
use serde::Serialize;

use super::{
    asker::say,
    guided::Abilities,
    point::{self, Guarded},
};
use crate::{
    cli::Context,
    report::{self, Code, Trouble, UNTOUCHED},
};

const UNITS: &str = "etc/systemd/system";
/// Where units of packages are.
const OTHERS: [&str; 3] = ["usr/lib/systemd/system", "lib/systemd/system", "usr/local/lib/systemd/system"];

/// Write systemd's units: the library mounted at boot, failures told, Immich bound to it
///
/// haven.service is "started" when the folder is there, waits for the network, is told when it may not be killed, and can
/// do nothing but mount and speak with the network. Each unit of Immich gets a drop-in by which it starts after the mount
/// and stops with it. The empty mount point is closed to everybody, so that nothing lands there by mistake. Secrets
/// that haven.toml names as systemd credentials come from /etc/haven/NAME, or sealed from
/// /etc/credstore.encrypted/NAME (systemd-creds encrypt).
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven setup systemd --dry-run                       show what would be written\n  haven setup systemd && systemctl daemon-reload && systemctl enable --now haven\n  haven setup systemd --immich podman-immich.service  a unit that is not found by itself"
)]
pub struct Args {
    /// Print the units and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Write below DIR instead of /, for an image or a package; mount point and running system are left alone
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// A unit that lives on the library; again for more [default: those of Immich that are installed]
    #[arg(long, value_name = "UNIT")]
    immich: Vec<String>,
    /// Replace units of these names that were not written by this command; they are kept as NAME.before-haven
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Serialize)]
struct Done {
    written: Vec<PathBuf>,
    unchanged: Vec<PathBuf>,
    dry_run: bool,
    mount_point: Option<Guarded>,
    findings: Vec<Finding>,
    next: Vec<String>,
}

pub fn run(context: &Context, command: &clap::Command, args: &Args) -> Result<(), Trouble> {
    let (done, told) = make(context, Abilities::of(command), args)?;
    context.answer(&done, &told)
}

/// The same, as a part of `haven setup`: on this machine, told on stderr.
pub fn write_all(context: &Context, has: Abilities, immich: &str) -> Result<(), Trouble> {
    let immich = immich.split([',', ' ']).filter(|unit| !unit.is_empty()).map(str::to_owned).collect();
    let args = Args { dry_run: false, root: "/".into(), immich, force: false };
    let (_, told) = make(context, has, &args)?;
    say(&told);
    Ok(())
}

fn make(context: &Context, has: Abilities, args: &Args) -> Result<(Done, String), Trouble> {
    let setup = setup(context, has, args)?;
    let files: Vec<(PathBuf, String)> =
        setup.files().into_iter().map(|(name, text)| (args.root.join(UNITS).join(name), text)).collect();
    let mut told = String::new();
    if args.dry_run {
        for (path, text) in &files {
            told += &format!("# {}\n{text}\n", path.display());
        }
        let done = Done {
            written: files.into_iter().map(|(path, _)| path).collect(),
            unchanged: Vec::new(),
            dry_run: true,
            mount_point: None,
            findings: Vec::new(),
            next: Vec::new(),
        };
        return Ok((done, told));
    }
    refuse_strangers(&files, args.force)?;
    let (mut written, mut unchanged) = (Vec::new(), Vec::new());
    for (path, text) in files {
        if fs::read_to_string(&path).is_ok_and(|there| there == text) {
            told += &format!("as it was  {}\n", path.display());
            unchanged.push(path);
            continue;
        }
        write(&path, &text).map_err(|error| cannot(&path, &error))?;
        told += &format!("written    {}\n", path.display());
        written.push(path);
    }
    let live = args.root == Path::new("/");
    let mut mount_point = None;
    if let Some(point) = setup.point.as_ref().filter(|_| live) {
        let guarded = point::guard(point)?;
        told += &format!("guarded    {}: {}\n", point.display(), guarded.words());
        mount_point = Some(guarded);
    }
    for credential in setup.credentials.iter().filter(|credential| live && !credential.file.exists()) {
        report::warn(format!(
            "{} is not there yet, and haven.service does not start without it (install -m 600 /dev/stdin {})",
            credential.file.display(),
            credential.file.display()
        ));
    }
    let findings = if live { judged(args) } else { Vec::new() };
    for finding in &findings {
        report::warn(format!("{}: {}; instead: {}", finding.unit, finding.says, finding.instead));
    }
    let next = vec![
        "systemctl daemon-reload".to_owned(),
        "systemctl enable --now haven.service".to_owned(),
        "haven doctor --units    looks at the rest of this machine's units".to_owned(),
    ];
    told += &format!("\nNext:\n{}", next.iter().map(|line| format!("  {line}\n")).collect::<String>());
    Ok((Done { written, unchanged, dry_run: false, mount_point, findings, next }, told))
}

fn setup(context: &Context, has: Abilities, args: &Args) -> Result<Setup, Trouble> {
    let config = &context.config;
    let missing = |setting: &str, example: &str| {
        Trouble::new(Code::Usage, format!("haven.toml does not say {setting}"))
            .meaning(UNTOUCHED)
            .next(format!("set it ({example}), or let haven setup ask for everything"))
    };
    let from = config.from.clone().ok_or_else(|| {
        Trouble::new(Code::Usage, "there is no haven.toml yet, and units name no library")
            .meaning(UNTOUCHED)
            .next("haven setup    asks for what it needs and writes one")
    })?;
    config.library.url.as_ref().ok_or_else(|| missing("where the library is", "library.url"))?;
    let mount = config.mount.point.clone().ok_or_else(|| missing("where to mount", "mount.point"))?;
    let program = std::env::current_exe().map_err(|error| cannot(Path::new("haven"), &error))?;
    let environment = Path::new("/etc/haven/environment");
    Ok(Setup {
        program,
        credentials: credentials(config, &from, &args.root)?,
        config: std::path::absolute(&from).unwrap_or(from),
        point: Some(std::path::absolute(&mount).unwrap_or(mount)),
        keeper: has.keeper,
        alerts: has.alert,
        state: config.schedule.directory.as_ref().map(|own| std::path::absolute(own).unwrap_or_else(|_| own.clone())),
        environment: below(&args.root, environment).exists().then(|| environment.to_owned()),
        applications: if args.immich.is_empty() { installed_immich(&args.root) } else { named(&args.immich) },
        docker: is_installed(&args.root, "docker.service"),
        after: ["postgresql.service"]
            .into_iter()
            .filter(|unit| is_installed(&args.root, unit))
            .map(str::to_owned)
            .collect(),
    })
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn directories(root: &Path) -> impl Iterator<Item = PathBuf> {
    [UNITS].into_iter().chain(OTHERS).map(move |directory| root.join(directory))
}

fn is_installed(root: &Path, unit: &str) -> bool {
    directories(root).any(|directory| directory.join(unit).exists())
}

fn named(units: &[String]) -> Vec<String> {
    units.iter().map(|unit| if unit.contains('.') { unit.clone() } else { format!("{unit}.service") }).collect()
}

/// Services of Immich that read and write the library. What they run may say nothing (a container), so names count.
fn installed_immich(root: &Path) -> Vec<String> {
    let there: Vec<PathBuf> = directories(root).filter(|path| path.is_dir()).collect();
    let Ok(tree) = Tree::read(&there) else { return Vec::new() };
    haven_units::audit::Roles::of(&tree).applications.into_iter().filter(|unit| !unit.contains('@')).collect()
}

/// Every `systemd = "NAME"` of the settings, and the passphrase where nothing else gives it.
fn credentials(config: &crate::config::Config, from: &Path, root: &Path) -> Result<Vec<Credential>, Trouble> {
    let text = fs::read_to_string(from).map_err(|error| cannot(from, &error))?;
    let mut names = Vec::new();
    let table: toml::Table = text.parse().unwrap_or_default();
    let mut telling = Vec::new();
    table.get("alert").into_iter().for_each(|alert| systemd_names(alert, &mut telling));
    systemd_names(&toml::Value::Table(table), &mut names);
    let key = &config.key;
    if key.passphrase_file.is_none() && key.key_file.is_none() && key.passphrase_command.is_none() {
        names.push("haven-passphrase".into());
    }
    names.sort();
    names.dedup();
    Ok(names.into_iter().map(|name| credential(&name, telling.contains(&name), root)).collect())
}

fn credential(name: &str, tells: bool, root: &Path) -> Credential {
    let sealed = PathBuf::from("/etc/credstore.encrypted").join(name);
    if below(root, &sealed).exists() {
        return Credential { name: name.to_owned(), file: sealed, encrypted: true, tells };
    }
    let own = Path::new("/etc/haven");
    let plain = own.join(name);
    let short = own.join(name.trim_start_matches("haven-"));
    let file = if !below(root, &plain).exists() && below(root, &short).exists() { short } else { plain };
    Credential { name: name.to_owned(), file, encrypted: false, tells }
}

fn systemd_names(value: &toml::Value, out: &mut Vec<String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                match value.as_str().filter(|_| key == "systemd") {
                    Some(name) => out.push(name.to_owned()),
                    None => systemd_names(value, out),
                }
            }
        }
        toml::Value::Array(items) => items.iter().for_each(|item| systemd_names(item, out)),
        _ => {}
    }
}

/// A unit that somebody wrote by hand is not lost by this.
fn refuse_strangers(files: &[(PathBuf, String)], force: bool) -> Result<(), Trouble> {
    for (path, _) in files {
        let Ok(there) = fs::read_to_string(path) else { continue };
        if there.starts_with(MARK) {
            continue;
        }
        if !force {
            return Err(Trouble::new(Code::Occupied, format!("{} was not written by this command", path.display()))
                .meaning(UNTOUCHED)
                .next("compare it: haven setup systemd --dry-run")
                .next("--force replaces it, and keeps it as NAME.before-haven"));
        }
        let mut kept = path.clone().into_os_string();
        kept.push(".before-haven");
        fs::rename(path, &kept).map_err(|error| cannot(path, &error))?;
    }
    Ok(())
}

/// Whole or not at all: systemd may read it at any time.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    use std::{io::Write, os::unix::fs::PermissionsExt};
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

fn cannot(path: &Path, error: &std::io::Error) -> Trouble {
    Trouble::new(Code::Local, format!("{} can't be read or written", path.display()))
        .caused_by(error)
        .next("run this as root, or look at it first: haven setup systemd --dry-run")
}

/// What the audit, and systemd itself, say of the machine's units for photos as they are now.
fn judged(args: &Args) -> Vec<Finding> {
    let there: Vec<PathBuf> = directories(&args.root).filter(|path| path.is_dir()).collect();
    let findings = Tree::read(&there).map(|tree| audit(&tree, Scope::Photos)).unwrap_or_default();
    let ours = ["haven.service", "haven-alert@.service"].map(|name| args.root.join(UNITS).join(name));
    let ours = ours.into_iter().filter(|path| path.exists());
    let verify = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(ours).output();
    // It ends well on names it does not know: what it says counts.
    let said = verify.map(|done| String::from_utf8_lossy(&done.stderr).into_owned()).unwrap_or_default();
    for line in said.lines().filter(|line| line.contains("haven")) {
        report::warn(format!("systemd: {line}"));
    }
    findings.into_iter().filter(|finding| finding.unit.contains("haven") || finding.unit.contains("immich")).collect()
}
