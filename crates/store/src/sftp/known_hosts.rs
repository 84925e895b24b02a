//! Is this the server it should be? By a pinned fingerprint, or by OpenSSH's files of known hosts.
//!
//! Read anew for each connection. A server that is not known is refused with its fingerprint and the
//! line that would make it known; a key that has changed is refused with the line that says otherwise.
//! Certificates of hosts (`@cert-authority`) are not asked for.

use std::path::Path;

use aws_lc_rs::hmac;
use russh::keys::{
    HashAlg, PublicKey,
    ssh_key::{
        Algorithm,
        known_hosts::{Entry, HostPatterns, Marker},
    },
};

use super::config::{Identity, Target};

/// What is known of a host: its lines of all files.
#[derive(Debug, Default)]
pub(super) struct Known {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    /// `file, line 3`.
    place: String,
    revoked: bool,
    key: PublicKey,
}

impl Known {
    /// Reads what the files say of the target's host; nothing if it is pinned.
    pub(super) fn read(target: &Target) -> Self {
        let Identity::KnownHosts(files) = &target.identity else { return Self::default() };
        let name = host_name(target);
        let mut known = Self::default();
        for file in files {
            if let Ok(text) = std::fs::read_to_string(file) {
                known.add(file, &text, &name);
            }
        }
        known
    }

    fn add(&mut self, file: &Path, text: &str, name: &str) {
        for (number, line) in (1..).zip(text.lines()) {
            // What OpenSSH would not understand either is passed over.
            let Ok(entry) = line.trim().parse::<Entry>() else { continue };
            if line.trim().starts_with('#') || !matches(entry.host_patterns(), name) {
                continue;
            }
            if entry.marker() == Some(&Marker::CertAuthority) {
                continue;
            }
            self.lines.push(Line {
                place: format!("{}, line {number}", file.display()),
                revoked: entry.marker() == Some(&Marker::Revoked),
                key: entry.public_key().clone(),
            });
        }
    }

    /// Whether a key of this kind is known, so that the server is asked for it first.
    pub(super) fn has(&self, algorithm: &Algorithm) -> bool {
        self.lines.iter().any(|line| !line.revoked && same_kind(&line.key.algorithm(), algorithm))
    }

    /// Checks the key that the server has shown, and proved to have. The error says all that is to be said.
    pub(super) fn check(&self, target: &Target, key: &PublicKey) -> Result<(), String> {
        let shown = key.fingerprint(HashAlg::Sha256).to_string();
        let kind = key.algorithm();
        let host = host_name(target);
        let files = match &target.identity {
            Identity::Fingerprint(pinned) if *pinned == shown => return Ok(()),
            Identity::Fingerprint(pinned) => {
                return Err(format!(
                    "{host} has shown the key {kind} {shown}, but store.sftp.fingerprint is {pinned}: \
                     it is another server, somebody is in between, or its key was replaced"
                ));
            }
            Identity::KnownHosts(files) => files,
        };
        let same = |line: &&Line| line.key.key_data() == key.key_data();
        if let Some(line) = self.lines.iter().filter(same).find(|line| line.revoked) {
            return Err(format!("the key {kind} {shown} of {host} was revoked ({})", line.place));
        }
        if self.lines.iter().any(|line| same(&line)) {
            return Ok(());
        }
        let others: Vec<&str> = self.lines.iter().filter(|l| !l.revoked).map(|l| l.place.as_str()).collect();
        if !others.is_empty() {
            return Err(format!(
                "the key of {host} HAS CHANGED: it has shown {kind} {shown}, which is not what it had ({}). It is \
                 another server, somebody is in between, or its key was replaced; if you know that it was, remove \
                 that line, and add: {}",
                others.join("; "),
                line_to_add(&host, key)
            ));
        }
        let file = files.first().map_or_else(|| "known_hosts".into(), |file| file.display().to_string());
        Err(format!(
            "the key of {host} is not known: {kind} {shown}. If the server's owner says that this is its \
             fingerprint, add this line to {file}: {}",
            line_to_add(&host, key)
        ))
    }
}

fn line_to_add(host: &str, key: &PublicKey) -> String {
    let bare = PublicKey::new(key.key_data().clone(), "");
    format!("{host} {}", bare.to_openssh().unwrap_or_default().trim())
}

/// The host as files of known hosts call it.
fn host_name(target: &Target) -> String {
    let host = target.host.to_ascii_lowercase();
    if target.port == 22 { host } else { format!("[{host}]:{}", target.port) }
}

fn same_kind(a: &Algorithm, b: &Algorithm) -> bool {
    matches!((a, b), (Algorithm::Rsa { .. }, Algorithm::Rsa { .. })) || a == b
}

fn matches(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::HashedName { salt, hash } => {
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
            hmac::sign(&key, name.as_bytes()).as_ref() == hash
        }
        HostPatterns::Patterns(patterns) => {
            let fits = |pattern: &str| glob(pattern.to_ascii_lowercase().as_bytes(), name.as_bytes());
            let refused = patterns.iter().filter_map(|p| p.strip_prefix('!')).any(fits);
            !refused && patterns.iter().filter(|p| !p.starts_with('!')).any(|p| fits(p))
        }
    }
}

/// `*` and `?` as OpenSSH means them.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => glob(rest, name) || (!name.is_empty() && glob(pattern, &name[1..])),
        (Some((b'?', rest)), Some((_, name))) => glob(rest, name),
        (Some((expected, rest)), Some((found, name))) => expected == found && glob(rest, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with ssh-keygen for these tests; nobody has the private keys.
    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF";

    fn target(host: &str, port: u16, identity: Identity) -> Target {
        let (user, root) = ("me".to_owned(), String::new());
        Target { user, host: host.to_owned(), port, root, identity, proofs: Vec::new(), connections: 1 }
    }

    fn check(host: &str, port: u16, text: &str) -> Result<(), String> {
        let target = target(host, port, Identity::KnownHosts(vec!["/kh".into()]));
        let mut known = Known::default();
        known.add(Path::new("/kh"), text, &host_name(&target));
        known.check(&target, &KEY.parse().expect("a key"))
    }

    #[test]
    fn a_known_key_is_found_under_every_spelling_of_its_host() {
        let known = [
            ("example.com", 22, format!("example.com {KEY}")),
            ("Example.COM", 22, format!("# a comment\n\nnonsense\nother,example.com {KEY} of a friend\n")),
            ("example.com", 2222, format!("[example.com]:2222 {KEY}")),
            ("nas.example.com", 22, format!("*.example.com,!www.example.com {KEY}")),
            ("nas1", 22, format!("nas? {KEY}")),
            ("example.com", 22, format!("|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak= {KEY}")),
            ("example.com", 22, format!("example.com {OTHER}\nexample.com {KEY}")),
        ];
        for (host, port, text) in known {
            assert_eq!(check(host, port, &text), Ok(()), "{host}:{port} in {text}");
        }
    }

    #[test]
    fn an_unknown_key_is_told_with_the_line_to_add() {
        let unknown = [
            ("example.com", 22, String::new(), "example.com"),
            ("example.com", 2222, format!("example.com {KEY}"), "[example.com]:2222"),
            ("www.example.com", 22, format!("*.example.com,!www.example.com {KEY}"), "www.example.com"),
            ("example.com", 22, format!("@cert-authority example.com {KEY}"), "example.com"),
            ("example.com", 22, format!("#example.com {KEY}"), "example.com"),
        ];
        for (host, port, text, name) in unknown {
            let why = check(host, port, &text).expect_err("it is not known");
            assert!(why.contains("is not known: ssh-ed25519 SHA256:"), "{why}");
            assert!(why.ends_with(&format!("to /kh: {name} {KEY}")), "{why}");
        }
    }

    #[test]
    fn a_changed_or_revoked_key_is_told_with_its_line() {
        let why = check("example.com", 22, &format!("\nexample.com {OTHER}")).expect_err("another key");
        assert!(why.contains("HAS CHANGED") && why.contains("/kh, line 2"), "{why}");
        let text = format!("example.com {KEY}\n@revoked * {KEY}");
        let why = check("example.com", 22, &text).expect_err("a revoked key");
        assert!(why.contains("revoked (/kh, line 2)"), "{why}");
    }

    #[test]
    fn a_pinned_fingerprint_is_all_that_counts() {
        let key: PublicKey = KEY.parse().expect("a key");
        let print = key.fingerprint(HashAlg::Sha256).to_string();
        let pinned = target("example.com", 22, Identity::Fingerprint(print.clone()));
        assert_eq!(Known::read(&pinned).check(&pinned, &key), Ok(()));
        let other: PublicKey = OTHER.parse().expect("a key");
        let why = Known::read(&pinned).check(&pinned, &other).expect_err("another key");
        assert!(why.contains(&print) && why.contains("store.sftp.fingerprint"), "{why}");
    }
}
