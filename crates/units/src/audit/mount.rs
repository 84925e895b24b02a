//! The mount of a library, and those who live on it.

use super::{Finding, Look};
use crate::{
    span::{self, Span},
    tree::Unit,
};

/// What gives a service a file system namespace of its own: what it mounts then nobody else sees (systemd.exec(5)).
const NAMESPACE: [&str; 31] = [
    "ProtectSystem",
    "ProtectHome",
    "ProtectKernelTunables",
    "ProtectKernelModules",
    "ProtectKernelLogs",
    "ProtectControlGroups",
    "ProtectProc",
    "ProcSubset",
    "PrivateTmp",
    "PrivateDevices",
    "PrivateMounts",
    "PrivateIPC",
    "PrivateUsers",
    "DynamicUser",
    "ReadWritePaths",
    "ReadOnlyPaths",
    "InaccessiblePaths",
    "ExecPaths",
    "NoExecPaths",
    "BindPaths",
    "BindReadOnlyPaths",
    "TemporaryFileSystem",
    "RootDirectory",
    "RootImage",
    "MountImages",
    "ExtensionImages",
    "ExtensionDirectories",
    "MountFlags",
    "LogNamespace",
    "IPCNamespacePath",
    "MountAPIVFS",
];
/// What needs longer to end than systemd gives by default, in seconds.
const STOP_MIN: f64 = 600.0;

pub fn look(look: Look<'_>, findings: &mut Vec<Finding>) {
    if look.roles.mounts.contains_key(&look.unit.name) && look.is_service() {
        hidden_mount(look.unit, findings);
        too_early(look, findings);
        cut_off(look.unit, findings);
        without_network(look.unit, findings);
    }
    if look.roles.applications.contains(&look.unit.name) {
        unbound(look, findings);
    }
}

fn hidden_mount(unit: &Unit, findings: &mut Vec<Finding>) {
    let off = ["no", "false", "off", "0", "default", "all", "shared"];
    let set = NAMESPACE.iter().filter(|key| unit.value(key).is_some_and(|value| !off.contains(&value)));
    let set: Vec<&str> = set.copied().collect();
    let Some(first) = set.first() else { return };
    findings.push(
        Finding::fail(
            "mount-invisible",
            unit,
            format!("{} puts the mount where only this service sees it", set.join(", ")),
        )
        .at_key(unit, first)
        .matters(
            "each of these gives the service a mount namespace of its own. Everybody else, Immich too, sees the bare \
                 directory below, and writes into it",
        )
        .instead(
            "no such option for what mounts; CapabilityBoundingSet=, NoNewPrivileges=, SystemCallFilter=, \
                 RestrictAddressFamilies=, DevicePolicy= do no harm (haven setup systemd uses them)",
        ),
    );
}

fn too_early(look: Look<'_>, findings: &mut Vec<Finding>) {
    let unit = look.unit;
    let kind = unit.value("Type").unwrap_or("simple");
    if ["notify", "notify-reload", "forking", "dbus"].contains(&kind) || look.is_oneshot() {
        return;
    }
    findings.push(
        Finding::fail("ready-too-early", unit, format!("Type={kind} says \"started\" before anything is mounted"))
            .at_key(unit, "Type")
            .matters("what is ordered after it starts at once, finds the bare directory, and may fill it")
            .instead("Type=notify: the unit is up when the folder is"),
    );
}

fn cut_off(unit: &Unit, findings: &mut Vec<Finding>) {
    let key = if unit.value("TimeoutStopSec").is_some() { "TimeoutStopSec" } else { "TimeoutSec" };
    let long = unit.value(key).and_then(span::parse);
    if long.is_some_and(|long| long == Span::Infinite || long.seconds() >= STOP_MIN || long.seconds() == 0.0) {
        return;
    }
    let says = match unit.value(key) {
        Some(text) => format!("after {text} the mount is killed, uploaded or not"),
        None => "after 90 s, systemd's own limit, the mount is killed, uploaded or not".into(),
    };
    findings.push(
        Finding::warn("stop-cut-off", unit, says)
            .at_key(unit, key)
            .matters("what was not yet in the bucket is then on this machine only, and some file systems need a repair")
            .instead("TimeoutStopSec=infinity, or 10min where the mount asks for more itself (EXTEND_TIMEOUT_USEC)"),
    );
}

fn without_network(unit: &Unit, findings: &mut Vec<Finding>) {
    let target = "network-online.target";
    let waits = unit.words("After").contains(&target);
    let asks = ["Wants", "Requires", "BindsTo"].iter().any(|key| unit.words(key).contains(&target));
    if waits && asks {
        return;
    }
    let lacking = match (waits, asks) {
        (true, _) => "Wants=network-online.target is missing: without it nobody starts that target",
        (_, true) => "After=network-online.target is missing: wanting it does not wait for it",
        _ => "it does not wait for the network",
    };
    findings.push(
        Finding::warn("no-network-yet", unit, lacking)
            .matters("at boot the first try is made without a network; whether there is a second one depends on luck")
            .instead("Wants=network-online.target and After=network-online.target"),
    );
}

/// An application must not be there when its library is not.
fn unbound(look: Look<'_>, findings: &mut Vec<Finding>) {
    let unit = look.unit;
    let is_mount = |name: &&str| {
        look.roles.mounts.contains_key(*name)
            || name.ends_with(".mount")
            || name.starts_with("haven")
            || name.contains("s3ql")
    };
    let stops = unit.words("BindsTo").iter().any(is_mount);
    let after = unit.words("After").iter().any(is_mount);
    let paths = unit.words("RequiresMountsFor");
    let needs = !paths.is_empty();
    if stops && (after || needs) {
        return;
    }
    let mount = look.roles.mounts.iter().next();
    let name = mount.map_or("haven.service", |(name, _)| name);
    let point = mount.and_then(|(_, point)| point.as_deref()).unwrap_or("/mnt/photos");
    let says = if !after && !needs && !stops {
        format!("nothing ties it to the library's mount ({name})")
    } else if !stops {
        "it is started after the mount, but does not stop with it".to_owned()
    } else {
        "it stops with the mount, but may start before it".to_owned()
    };
    findings.push(
        Finding::fail("not-bound-to-mount", unit, says)
            .at_key(unit, "After")
            .matters(
                "when the mount is gone Immich goes on: uploads fail after the phone was told, or land in the bare \
                 directory and vanish below the next mount",
            )
            .instead(format!("under [Unit]: BindsTo={name}, After={name}, RequiresMountsFor={point}")),
    );
}
