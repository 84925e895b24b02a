//! Haven's own units, as text. Who calls decides where they are written.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

/// The first line of all that is written here: what begins with it may be written anew.
pub const MARK: &str = "# Written by `haven setup systemd`, and written anew by it: put changes into drop-ins";

const FOR_ALL: &str =
    "# For any machine; `haven setup systemd` writes one that knows this one. Changes: systemctl edit haven.service";

/// What the units have to know.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The program: `/usr/bin/haven`.
    pub program: PathBuf,
    /// Its settings: `/etc/haven/haven.toml`.
    pub config: PathBuf,
    /// Where the library is mounted; none for a unit that fits every machine.
    pub point: Option<PathBuf>,
    /// Whether this Haven has the keeper (`haven run`), which feeds a watchdog and asks for more time when it needs it.
    pub keeper: bool,
    /// Whether this Haven can tell of failed units (`haven alert unit`).
    pub alerts: bool,
    /// Where the keeper keeps what it must not forget, where that is not below /var/lib/haven.
    pub state: Option<PathBuf>,
    /// Names of systemd credentials, and the files they come from.
    pub credentials: Vec<Credential>,
    /// A file of environment variables, where there is one.
    pub environment: Option<PathBuf>,
    /// Units that live on the library: `immich-server.service`.
    pub applications: Vec<String>,
    /// Whether containers are started by Docker's own service: they must not be before the mount is.
    pub docker: bool,
    /// Local services to wait for: `postgresql.service`.
    pub after: Vec<String>,
}

/// A secret that systemd hands over, readable by the service alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    pub name: String,
    pub file: PathBuf,
    /// Sealed by systemd-creds(1).
    pub encrypted: bool,
    /// Who tells of a failed unit needs it. What it does not need could only keep it from telling that it is not there.
    pub tells: bool,
}

/// What a FUSE server can be kept from without a mount namespace of its own, in which nobody else would see its mount.
const MOUNT_SANDBOX: &str = "\
NoNewPrivileges=yes
DevicePolicy=closed
DeviceAllow=/dev/fuse rw
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
ProtectClock=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service @mount
SystemCallFilter=~@resources
SystemCallErrorNumber=EPERM
KeyringMode=private
UMask=0077
";

/// CAP_SYS_ADMIN mounts; CAP_DAC_READ_SEARCH looks into the bare mount point, which nobody else may.
const MOUNT_MAY: &str = "CAP_SYS_ADMIN CAP_DAC_READ_SEARCH";
/// The keeper also starts a PostgreSQL of its own for a drill, which refuses to be root, gives it its directory, and ends
/// it.
const KEEPER_MAY: &str = "CAP_DAC_OVERRIDE CAP_CHOWN CAP_FOWNER CAP_SETUID CAP_SETGID CAP_KILL";
/// A job makes a mount namespace: root's third copies are made of a snapshot that is shown to borg or restic at one place,
/// and to nobody else.
const KEEPER_NAMESPACES: &str = "\
# haven copy run shows its snapshot in a mount namespace of its own.
RestrictNamespaces=mnt
";

/// Who only sends a message needs next to nothing.
const ALERT_SANDBOX: &str = "\
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_DAC_READ_SEARCH
ProtectSystem=strict
ProtectHome=read-only
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
PrivateTmp=yes
PrivateDevices=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077
";

impl Setup {
    /// For every machine: what haven.toml and, if it is there, /etc/haven/environment say.
    pub fn of_a_package(keeper: bool, alerts: bool) -> Self {
        Self {
            program: "/usr/bin/haven".into(),
            config: "/etc/haven/haven.toml".into(),
            point: None,
            keeper,
            alerts,
            state: None,
            credentials: Vec::new(),
            environment: Some("-/etc/haven/environment".into()),
            applications: Vec::new(),
            docker: true,
            after: vec!["postgresql.service".into()],
        }
    }

    /// Every file, by its name below `/etc/systemd/system`.
    pub fn files(&self) -> Vec<(PathBuf, String)> {
        let mut files = vec![(PathBuf::from("haven.service"), self.service())];
        if self.alerts {
            files.push(("haven-alert@.service".into(), self.alert()));
        }
        for unit in &self.applications {
            files.push((Path::new(&format!("{unit}.d")).join("haven.conf"), self.application()));
        }
        files
    }

    /// The library, mounted.
    pub fn service(&self) -> String {
        let mut out = match &self.point {
            Some(point) => {
                let at = specifiers(&point.display().to_string());
                format!("{MARK}\n# (systemctl edit haven.service).\n[Unit]\nDescription=Photo library at {at}\n")
            }
            None => format!("{FOR_ALL}\n[Unit]\nDescription=Photo library\n"),
        };
        out += "Documentation=man:haven(1)\n";
        out += "Wants=network-online.target\n";
        _ = writeln!(out, "After={}", [&["network-online.target".to_owned()][..], &self.after].concat().join(" "));
        if self.docker {
            out += "# Containers that find the bare directory would fill it.\nBefore=docker.service\n";
        }
        if !self.applications.is_empty() {
            out += "# What stops with the mount comes back with it.\n";
            _ = writeln!(out, "Wants={}", self.applications.join(" "));
        }
        if self.alerts {
            out += "OnFailure=haven-alert@%n.service\n";
        }
        out += "# Five ends within an hour are a failure that somebody must see, not one more restart.\n\
                StartLimitIntervalSec=1h\nStartLimitBurst=5\n\n[Service]\n";
        out += "# \"Started\" means: mounted.\nType=notify\nNotifyAccess=main\n";
        let does = if self.keeper { "run" } else { "mount --foreground" };
        _ = writeln!(out, "ExecStart={} --config {} {does}", quoted(&self.program), quoted(&self.config));
        if self.keeper {
            // Its shell's own: the program of that name is not on every machine.
            out += "ExecReload=/bin/sh -c \"kill -HUP $MAINPID\"\n";
        }
        self.environment_and_credentials("", |_| true, &mut out);
        out += "CacheDirectory=haven\nCacheDirectoryMode=0700\nStateDirectory=haven\nStateDirectoryMode=0700\n";
        out += "Restart=on-failure\nRestartSec=5s\nTimeoutStartSec=10min\n";
        if self.keeper {
            out += "# Fed by a look at the mount and at the store. It asks for more time while it uploads.\n\
                    WatchdogSec=60s\nTimeoutStopSec=10min\n";
        } else {
            out +=
                "# A stop uploads what is not in the bucket yet, however long that takes.\nTimeoutStopSec=infinity\n";
        }
        out += "KillMode=mixed\n\
                # What waits for the bucket is open, and much of the cache: a thousand files may be too few.\n\
                LimitNOFILE=65536\n\n";
        out += "# Nothing here may give this service a mount namespace of its own (ProtectSystem= and its like do): nobody\n\
                # else would see the mount.\n";
        let more = if self.keeper { format!(" {KEEPER_MAY}") } else { String::new() };
        _ = writeln!(out, "CapabilityBoundingSet={MOUNT_MAY}{more}");
        out += if self.keeper { KEEPER_NAMESPACES } else { "RestrictNamespaces=yes\n" };
        out += MOUNT_SANDBOX;
        out += "\n[Install]\nWantedBy=multi-user.target\n";
        out
    }

    /// Tells of a failed unit: `OnFailure=haven-alert@%n.service`, in any unit of the machine.
    pub fn alert(&self) -> String {
        let mut out = format!(
            "{MARK}\n# (systemctl edit haven-alert@.service).\n[Unit]\nDescription=Tell the owner of the photos that %i failed\n"
        );
        out += "Documentation=man:haven(1)\n\n[Service]\nType=oneshot\n# An alert that hangs holds up the next one.\nTimeoutStartSec=5min\n";
        _ = writeln!(out, "ExecStart={} --config {} alert unit %i", quoted(&self.program), quoted(&self.config));
        self.environment_and_credentials("-", |credential| credential.tells, &mut out);
        out += "StateDirectory=haven\nStateDirectoryMode=0700\nKillMode=mixed\n\n";
        // A home is not closed to it: the program itself may lie there, and what haven.toml names.
        out += ALERT_SANDBOX;
        if let Some(state) = &self.state {
            // Messages that can't be told yet wait there.
            let path = specifiers(&state.display().to_string());
            let mark = if path.contains(char::is_whitespace) { "\"" } else { "" };
            _ = writeln!(out, "ReadWritePaths={mark}-{path}{mark}");
        }
        out
    }

    /// What ties an application to the library.
    pub fn application(&self) -> String {
        let needs = self.point.as_ref().map(|point| format!("RequiresMountsFor={}\n", quoted(point)));
        format!(
            "{MARK}\n[Unit]\n# Starts after the mount, stops with it, and is never there without it.\n\
             BindsTo=haven.service\nAfter=haven.service\n{}",
            needs.unwrap_or_default()
        )
    }

    /// `perhaps`: `-` where the unit starts without the file as well.
    fn environment_and_credentials(&self, perhaps: &str, wanted: fn(&Credential) -> bool, out: &mut String) {
        if let Some(file) = &self.environment {
            let file = specifiers(&file.display().to_string());
            let perhaps = if file.starts_with('-') { "" } else { perhaps };
            _ = writeln!(out, "EnvironmentFile={perhaps}{file}");
        }
        for credential in self.credentials.iter().filter(|credential| wanted(credential)) {
            let encrypted = if credential.encrypted { "Encrypted" } else { "" };
            let file = specifiers(&credential.file.display().to_string());
            _ = writeln!(out, "LoadCredential{encrypted}={}:{file}", credential.name);
        }
    }
}

/// `%` begins a specifier.
fn specifiers(text: &str) -> String {
    text.replace('%', "%%")
}

/// A path as one word of a command.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string().replace('%', "%%").replace('$', "$$");
    if text.contains([' ', '"', '\'', '\\', ';']) {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::{Scope, audit},
        tree::Tree,
    };

    fn setup(keeper: bool) -> Setup {
        Setup {
            program: "/usr/bin/haven".into(),
            config: "/etc/haven/haven.toml".into(),
            point: Some("/mnt/photos".into()),
            keeper,
            alerts: true,
            state: None,
            credentials: ["haven-passphrase", "telegram"]
                .map(|name| Credential {
                    name: name.into(),
                    file: Path::new("/etc/haven").join(name),
                    encrypted: false,
                    tells: name == "telegram",
                })
                .to_vec(),
            environment: Some("/etc/haven/environment".into()),
            applications: vec!["immich-server.service".into()],
            docker: true,
            after: vec!["postgresql.service".into()],
        }
    }

    #[test]
    fn the_audit_finds_nothing_in_our_own_units() {
        for keeper in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let server = "[Service]\nExecStart=/usr/bin/immich\nRestart=no\n";
            std::fs::write(directory.path().join("immich-server.service"), server).unwrap();
            for (name, text) in setup(keeper).files() {
                let path = directory.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            let tree = Tree::read(&[directory.path().to_owned()]).unwrap();
            assert_eq!(audit(&tree, Scope::All), [], "keeper: {keeper}");
        }
    }

    #[test]
    fn without_the_drop_in_the_audit_says_that_immich_is_not_bound() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("haven.service"), setup(true).service()).unwrap();
        std::fs::write(directory.path().join("haven-alert@.service"), setup(true).alert()).unwrap();
        std::fs::write(directory.path().join("immich-server.service"), "[Service]\nExecStart=/usr/bin/immich\n")
            .unwrap();
        let found = audit(&Tree::read(&[directory.path().to_owned()]).unwrap(), Scope::All);
        assert_eq!(found.iter().map(|finding| finding.rule).collect::<Vec<_>>(), ["not-bound-to-mount"]);
    }

    #[test]
    fn an_alert_runs_a_program_below_a_home_and_writes_where_the_keeper_does() {
        let text = setup(true).alert();
        assert!(text.contains("\nProtectHome=read-only\n") && !text.contains("ReadWritePaths"), "{text}");
        // What keeps the service from starting does not keep it from telling so.
        assert!(!text.contains("haven-passphrase") && text.contains("\nLoadCredential=telegram:/etc/haven/telegram\n"));
        assert!(text.contains("\nEnvironmentFile=-/etc/haven/environment\n"), "{text}");
        let service = setup(true).service();
        assert!(service.contains("\nLoadCredential=haven-passphrase:"), "{service}");
        let text = Setup { state: Some("/srv/my keeper".into()), ..setup(true) }.alert();
        assert!(text.ends_with("\nReadWritePaths=\"-/srv/my keeper\"\n"), "{text}");
    }

    #[test]
    fn a_copy_can_be_made_by_the_keeper_and_who_makes_none_makes_no_namespace() {
        let (keeper, mount) = (setup(true).service(), setup(false).service());
        assert!(
            keeper.contains("\nRestrictNamespaces=mnt\n") && !keeper.contains("RestrictNamespaces=yes"),
            "{keeper}"
        );
        assert!(mount.contains("\nRestrictNamespaces=yes\n") && !mount.contains("RestrictNamespaces=mnt"), "{mount}");
        assert!(setup(true).alert().contains("\nRestrictNamespaces=yes\n"));
        // What unshare(1) and mount(8) call.
        assert!(keeper.contains(" @mount\n") && MOUNT_MAY.contains("CAP_SYS_ADMIN"));
    }

    #[test]
    fn odd_paths_stay_one_word_and_what_they_are() {
        assert_eq!(quoted(Path::new("/mnt/my photos")), "\"/mnt/my photos\"");
        assert_eq!(quoted(Path::new("/mnt/100%/$x")), "/mnt/100%%/$$x");
    }
}
