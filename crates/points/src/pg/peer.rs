//! A server of this machine that lets in by who asks (`peer` in pg_hba.conf, as Debian's does). Root is nobody there: the
//! programs then run as the system's user who is called like the role, else as `postgres`. Only after root was refused for
//! that: whoever is let in by a password, a role or by trust stays who he is.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::CommandExt,
    process::Command,
    sync::{Mutex, PoisonError},
};

use super::{Reach, address};

/// Who owns the server, and may do everything in it.
const OWNER: &str = "postgres";

/// As whom a server lets us in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    pub name: String,
    user: u32,
    group: u32,
    /// What libpq is given then: a role that no user of the system is called like gives way to the owner's.
    pub database: String,
}

impl Peer {
    /// Makes the program be started as this user, in a directory where he may be.
    pub fn dress(&self, command: &mut Command) {
        command.uid(self.user).gid(self.group).current_dir("/");
    }
}

/// What this process has found out, by what libpq was given.
static FOUND: Mutex<BTreeMap<String, Peer>> = Mutex::new(BTreeMap::new());

pub(super) fn found(reach: &Reach) -> Option<Peer> {
    let found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    found.get(&reach.database).filter(|_| reach.within.is_empty()).cloned()
}

pub(super) fn remember(reach: &Reach, peer: Peer) {
    FOUND.lock().unwrap_or_else(PoisonError::into_inner).insert(reach.database.clone(), peer);
}

/// The system's user that the programs run as, where that is not who runs this.
pub fn stand_in(reach: &Reach) -> Option<String> {
    found(reach).map(|peer| peer.name)
}

/// What libpq is to be given.
pub fn given(reach: &Reach) -> String {
    found(reach).map_or_else(|| reach.database.clone(), |peer| peer.database)
}

/// Whether the programs can open files of ours by their names: not in a container, nor as somebody else.
pub fn sees_our_files(reach: &Reach) -> bool {
    reach.within.is_empty() && found(reach).is_none()
}

/// As whom it may go better, where the server has `said` that it does not let root in.
pub(super) fn wanted(reach: &Reach, said: &str) -> Option<Peer> {
    if !reach.within.is_empty() || !rustix::process::geteuid().is_root() {
        return None;
    }
    let role = std::env::var("PGUSER").ok().filter(|role| !role.is_empty());
    choose(&reach.database, role, said, account)
}

fn choose(
    database: &str,
    usual_role: Option<String>,
    said: &str,
    account: fn(&str) -> Option<(u32, u32)>,
) -> Option<Peer> {
    // The first half is libpq's, in English; the second the server's, in whatever language.
    let (_, refused) = said.split_once("connection to server on socket \"")?.1.split_once(" failed: ")?;
    let role = address::value(database, "user").or(usual_role);
    let no_peer = refused.to_lowercase().contains("peer") && !refused.contains("by peer");
    let no_role = role.is_none() && names_root(refused);
    // Without a name it would be another database: the one that is called like who asks.
    if !(no_peer || no_role) || address::value(database, "dbname").is_none() {
        return None;
    }
    let (name, database) = match role {
        Some(role) if account(&role).is_some() => (role, database.to_owned()),
        Some(_) => (OWNER.to_owned(), address::with_user(database, OWNER)),
        None => (OWNER.to_owned(), database.to_owned()),
    };
    let (user, group) = account(&name).filter(|(user, _)| *user != 0)?;
    Some(Peer { name, user, group, database })
}

/// Whether `root` stands in it as a word, in whatever quotation marks.
fn names_root(text: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || "_-./".contains(c);
    text.split(|c: char| !inside(c)).any(|word| word == "root")
}

/// The numbers of a user of the system, and of his group.
pub fn account(name: &str) -> Option<(u32, u32)> {
    let users = fs::read("/etc/passwd").ok()?;
    String::from_utf8_lossy(&users).lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then_some(())?;
        let mut numbers = fields.skip(1).map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_PEER: &str = "psql: error: connection to server on socket \"/run/postgresql/.s.PGSQL.5432\" failed: FATAL:  \
                           Peer authentication failed for user \"immich\"";
    const NO_ROLE: &str = "psql: error: connection to server on socket \"/root/.s.PGSQL.5432\" failed: FATAL:  role \"root\" \
                           does not exist";

    fn some(name: &str) -> Option<(u32, u32)> {
        [("postgres", (105, 113)), ("photos", (1001, 1001)), ("root", (0, 0))]
            .into_iter()
            .find_map(|(one, numbers)| (one == name).then_some(numbers))
    }

    fn chosen(database: &str, said: &str) -> Option<(String, String)> {
        choose(database, None, said, some).map(|peer| (peer.name, peer.database))
    }

    #[test]
    fn who_is_called_like_the_role_asks_else_the_servers_owner() {
        let own = |text: &str| Some(("postgres".to_owned(), text.to_owned()));
        assert_eq!(chosen("postgresql:///immich", NO_ROLE), own("postgresql:///immich"));
        assert_eq!(chosen("immich", &NO_ROLE.replace("role \"root\" does", "Rolle »root«")), own("immich"));
        let photos = "postgresql:///immich?user=photos";
        assert_eq!(chosen(photos, NO_PEER), Some(("photos".into(), photos.into())));
        assert_eq!(chosen("dbname=immich user=immich", NO_PEER), own("dbname=immich user=immich user='postgres'"));
        let german = NO_PEER.replace("Peer authentication failed for", "Peer-Authentifizierung für Benutzer");
        assert!(chosen("dbname=immich user=immich", &german).is_some());
        let by_environment = choose("immich", Some("photos".into()), NO_PEER, some).unwrap();
        assert_eq!((by_environment.name.as_str(), by_environment.user), ("photos", 1001));
    }

    #[test]
    fn what_is_wrong_otherwise_stays_so() {
        let socket = |why: &str| NO_ROLE.replace("FATAL:  role \"root\" does not exist", why);
        for (database, said) in [
            ("immich", socket("No such file or directory\n\tIs the server running locally?")),
            ("immich", socket("FATAL:  database \"immich-root\" does not exist")),
            ("immich", socket("Connection reset by peer")),
            ("dbname=x user=photos", socket("FATAL:  password authentication failed for user \"photos\"")),
            ("dbname=x user=photos", NO_ROLE.to_owned()),
            ("dbname=x user=root", NO_PEER.to_owned()),
            ("postgresql:///?host=/run/postgresql", NO_ROLE.to_owned()),
            ("immich", "connection to server at \"db\" (10.0.0.1), port 5432 failed: FATAL:  role \"root\"".to_owned()),
        ] {
            assert_eq!(chosen(database, &said), None, "{database}: {said}");
        }
        assert_eq!(choose("immich", None, NO_ROLE, |_| None), None, "there is no such user");
    }

    #[test]
    fn users_of_the_system_are_found_by_name() {
        assert_eq!(account("root"), Some((0, 0)));
        assert_eq!(account("roo"), None);
    }
}
