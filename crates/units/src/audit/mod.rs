//! What in a set of units can lose photos, or let a loss pass unseen.
//!
//! Each finding says what is wrong, why it matters for the photos, and what to write instead. Where a rule rests on a
//! fact of systemd, it is one of systemd.service(5), systemd.unit(5), systemd.exec(5), systemd.kill(5) or
//! systemd.time(7), tried with systemd 252.

mod alerts;
mod clock;
mod failure;
mod jobs;
mod mount;
mod roles;

use std::path::PathBuf;

use serde::Serialize;

pub use roles::Roles;

use crate::{
    file::Setting,
    tree::{Tree, Unit},
};

/// How bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth changing.
    Warn,
    /// Photos can be lost by it, or a loss pass unseen.
    Fail,
}

/// A mistake in a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable name of the rule.
    pub rule: &'static str,
    pub severity: Severity,
    pub unit: String,
    /// Where it stands; none for something that is missing.
    pub file: Option<PathBuf>,
    pub line: Option<usize>,
    /// What is wrong.
    pub says: String,
    /// Why that matters for the photos.
    pub matters: String,
    /// What to write instead.
    pub instead: String,
}

impl Finding {
    fn new(rule: &'static str, severity: Severity, unit: &Unit, says: impl Into<String>) -> Self {
        Self {
            rule,
            severity,
            unit: unit.name.clone(),
            file: unit.path.clone(),
            line: None,
            says: says.into(),
            matters: String::new(),
            instead: String::new(),
        }
    }

    fn fail(rule: &'static str, unit: &Unit, says: impl Into<String>) -> Self {
        Self::new(rule, Severity::Fail, unit, says)
    }

    fn warn(rule: &'static str, unit: &Unit, says: impl Into<String>) -> Self {
        Self::new(rule, Severity::Warn, unit, says)
    }

    fn at(mut self, (path, setting): (&PathBuf, &Setting)) -> Self {
        self.file = Some(path.clone());
        self.line = Some(setting.line);
        self
    }

    /// At that setting of the unit, where it is set.
    fn at_key(self, unit: &Unit, key: &str) -> Self {
        match unit.last(key) {
            Some((path, setting)) => self.at((path, setting)),
            None => self,
        }
    }

    fn matters(mut self, text: impl Into<String>) -> Self {
        self.matters = text.into();
        self
    }

    fn instead(mut self, text: impl Into<String>) -> Self {
        self.instead = text.into();
        self
    }
}

/// Which units are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All: somebody pointed at these directories.
    All,
    /// Those that have to do with the library, Immich, backups, and whatever they call: a machine has hundreds. Of templates
    /// only what is in use.
    Photos,
}

/// Every mistake, by unit and place.
pub fn audit(tree: &Tree, scope: Scope) -> Vec<Finding> {
    let in_use;
    let tree = match scope {
        Scope::All => tree,
        Scope::Photos => {
            in_use = tree.in_use();
            &in_use
        }
    };
    let roles = Roles::of(tree);
    let mut findings = Vec::new();
    for unit in tree.units.values().filter(|unit| scope == Scope::All || roles.concerns_photos(&unit.name)) {
        let look = Look { tree, roles: &roles, unit };
        findings.extend(unit.unreadable.iter().map(|(path, line)| {
            let mut finding = Finding::warn("unreadable-line", unit, "systemd ignores this line")
                .matters("what it was to do is not done")
                .instead("Key=value below a [Section], or a comment that begins with #");
            (finding.file, finding.line) = (Some(path.clone()), Some(*line));
            finding
        }));
        clock::look(look, &mut findings);
        failure::look(look, &mut findings);
        mount::look(look, &mut findings);
        alerts::look(look, &mut findings);
        jobs::look(look, &mut findings);
    }
    clock::overlaps(tree, &roles, &mut findings);
    findings.sort_by(|a, b| (&a.unit, &a.file, a.line, a.rule).cmp(&(&b.unit, &b.file, b.line, b.rule)));
    findings.dedup();
    findings
}

/// What a rule looks at.
#[derive(Clone, Copy)]
struct Look<'a> {
    tree: &'a Tree,
    roles: &'a Roles,
    unit: &'a Unit,
}

impl Look<'_> {
    fn is_service(&self) -> bool {
        self.unit.kind() == "service"
    }

    fn is_oneshot(&self) -> bool {
        self.unit.value("Type") == Some("oneshot")
    }
}
