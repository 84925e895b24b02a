//! Level 3: what a fresh machine needs to bring everything back alone, as cloud-init's user data, and the one command.
//!
//! No secret is in it: whoever runs the command types the recovery key, and what opens the stores. Nor is anything that names
//! a file or a command of this machine: [`Elsewhere`].

use std::{collections::BTreeMap, fs, path::Path};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;
use toml::Table;

use super::{
    Args, Context,
    elsewhere::{Asked, Elsewhere, How, KEPT},
};
use crate::{
    config::Config,
    report::{self, Code, Trouble, UNTOUCHED},
    wire, words,
};

pub fn write(context: &Context, args: &Args) -> Result<(), Trouble> {
    let usage = |what: &str| Trouble::new(Code::Usage, what).meaning(UNTOUCHED);
    let Some(to) = &args.to else { return Err(usage("--to says where what a fresh machine needs is to be written")) };
    let Some(program) = &args.program else {
        return Err(usage("--program says where a fresh machine fetches Haven from")
            .next("put the file that `command -v haven` names on any web server; its SHA-256 is checked"));
    };
    if program.contains(['\'', '"', '\n', ' ']) || !program.starts_with("http") {
        return Err(usage("--program is an http or https URL"));
    }
    let local = |what: &str, error: &std::io::Error| Trouble::new(Code::Local, what.to_owned()).caused_by(error);
    let own = std::env::current_exe().and_then(fs::read);
    let own = own.map_err(|error| local("this program's own file can't be read", &error))?;
    let sum: String = digest(&SHA256, &own).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let owner: Table = match &context.config.from {
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|error| local("haven.toml can't be read", &error))?;
            text.parse().map_err(|error: toml::de::Error| usage("haven.toml is not TOML").caused_by(&error))?
        }
        None => Table::new(),
    };
    let library = context.config.library.url.as_deref();
    if library.is_none() && context.config.from.is_none() {
        return Err(usage("no library was named"));
    }
    let said = |name: &str| std::env::var(name).ok().filter(|said| !said.is_empty());
    let new = Elsewhere::of(&owner, library, &args.copy, &said)?;
    Config::from_text(&new.settings, "haven.toml for a fresh machine")?;
    for place in &new.here {
        report::warn(format!("{place} is on this machine, and a fresh one does not have it"));
    }
    fs::create_dir_all(to).map_err(|error| local("the directory can't be made", &error))?;
    let apps: Vec<String> = match (&args.point, &args.of) {
        (None, None) => context.config.apps.iter().map(|app| app.name.clone()).collect(),
        (None, Some(of)) => vec![of.clone()],
        (Some(_), _) => return Err(usage("a fresh machine proves the newest point: --of says of which application")),
    };
    let wants = wants(super::mounted(context, args.library.as_deref()).as_deref(), &apps);
    let data = user_data(program, &sum, &new, &wants, &args.copy, &apps);
    let path = to.join("user-data");
    fs::write(&path, data).map_err(|error| local("user-data can't be written", &error))?;
    let command = "ssh -t root@NEW-MACHINE haven-comes-back";
    let text = format!(
        "wrote {}: hand it to a new Debian or Ubuntu machine as its user data (cloud-init), then\n  {command}\nIt asks for the recovery key{}, proves a point with a drill of level 2, and tells how long that took.\n",
        path.display(),
        match new.asked.len() {
            0 => String::new(),
            count => format!(" and {} more, which stand at its head", words::count(count, "thing")),
        }
    );
    let asks: Vec<&str> = new.asked.iter().map(|asked| asked.what.as_str()).collect();
    let answer = json!({ "user_data": path, "command": command, "sha256": sum, "host": wire::host(), "asks": asks });
    context.answer(&answer, &text)
}

/// What the databases of the newest points want of a server, a line for each, as far as it can be seen here.
fn wants(root: Option<&Path>, apps: &[String]) -> Vec<String> {
    let all = root.and_then(|root| haven_point::list(root).ok()).unwrap_or_default();
    let mut newest = BTreeMap::new();
    for point in all.into_iter().filter_map(|found| found.point.ok()) {
        let of = haven_point::application(point.name()).map(str::to_owned);
        if let Some(of) = of.filter(|of| apps.is_empty() || apps.contains(of)) {
            newest.insert(of, point.manifest.database);
        }
    }
    let line = |(of, database): (String, Option<haven_point::manifest::Database>)| {
        let database = database?;
        let with: Vec<&str> =
            database.extensions.keys().map(String::as_str).filter(|name| *name != "plpgsql").collect();
        let with = if with.is_empty() { String::new() } else { format!(", with {}", with.join(", ")) };
        Some(format!("{of}: PostgreSQL {} or newer{with}", database.major()))
    };
    newest.into_iter().filter_map(line).collect()
}

/// A block of text in YAML.
fn block(text: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("      {line}\n") }).collect()
}

/// One word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The head of the script: what it asks for, and what it needs.
fn head(new: &Elsewhere, wants: &[String]) -> String {
    let mut out = format!("# It asks for this, or finds it in files below {KEPT}, which go at its end:\n");
    let words = ("words", "the 24 words of the recovery key");
    for (file, what) in [words].into_iter().chain(new.asked.iter().map(|one| (one.file.as_str(), one.what.as_str()))) {
        out += &format!("#   {file:<28} {what}\n");
    }
    if !new.servers.is_empty() {
        let names: Vec<String> = new.servers.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        out += &format!("# And whether these are the servers: {}\n", names.join(", "));
    }
    if !new.here.is_empty() {
        out += &format!("# The old machine alone has: {}\n", new.here.join(", "));
    }
    out += "# The databases need:\n";
    match wants {
        [] => {
            out += "#   Immich: PostgreSQL of its version or newer, with pgvector and VectorChord (vchord), or pgvecto.rs (vectors)\n"
        }
        lines => lines.iter().for_each(|line| out += &format!("#   {line}\n")),
    }
    out += "# Debian's PostgreSQL and pgvector are installed, where it has them; https://github.com/tensorchord has packages of the\n\
            # others. Or name a server that has all of it: haven-comes-back --database 'postgresql://postgres@127.0.0.1/postgres'\n";
    out
}

/// The questions, as the script calls them.
fn questions(new: &Elsewhere) -> String {
    let mut out = String::new();
    for Asked { file, what, how } in &new.asked {
        let (verb, names) = match how {
            How::Line => ("line", String::new()),
            How::Lines => ("lines", String::new()),
            How::Variables(names) => ("variables", names.iter().map(|name| format!(" {}", quoted(name))).collect()),
        };
        out += &format!("{verb} {} {}{names}\n", quoted(file), quoted(what));
    }
    for (host, port) in &new.servers {
        out += &format!("known {} {port}\n", quoted(host));
    }
    out
}

fn user_data(
    program: &str,
    sum: &str,
    new: &Elsewhere,
    wants: &[String],
    copies: &[String],
    apps: &[String],
) -> String {
    let copies: String = copies.iter().map(|name| format!(" --copy {}", quoted(name))).collect();
    let drill = |of: &str| {
        format!(
            "haven drill --config /etc/haven/haven.toml --level 2 --server own --no-record --recovery-words \"$work/words\"{of}{copies} \"$@\" || exit=$?"
        )
    };
    // The application's own server is not there, whatever the settings say.
    // Where they name no application it is the drill that finds it, or says which there are.
    let drills = match apps {
        [] => drill(""),
        _ => {
            let apps: String = apps.iter().map(|app| format!(" {}", quoted(app))).collect();
            format!("for app in{apps}; do\n  {}\ndone", drill(" --of \"$app\""))
        }
    };
    let (head, questions) = (head(new, wants), questions(new));
    let script = format!(
        r#"#!/bin/sh
# Proves on this machine, which has nothing of the old one, that a recovery point comes back.
{head}set -eu
umask 077
work={KEPT}; mkdir -p "$work"; trap 'rm -rf "$work"' EXIT
line() {{ [ -s "$work/$1" ] || {{ printf '%s, then Enter:\n' "$2"; IFS= read -r said; printf '%s\n' "$said" >"$work/$1"; }}; }}
lines() {{ [ -s "$work/$1" ] || {{ printf '%s, then Ctrl-D:\n' "$2"; cat >"$work/$1"; }}; }}
variables() {{
  file=$work/$1; [ ! -s "$file" ] || return 0
  printf '%s:\n' "$2"; shift 2
  for name; do printf '  %s=' "$name"; IFS= read -r said; printf '%s=%s\n' "$name" "$said" >>"$file"; done
}}
known() {{
  case $2 in 22) name=$1 ;; *) name="[$1]:$2" ;; esac
  ! ssh-keygen -F "$name" -f /etc/ssh/ssh_known_hosts >/dev/null 2>&1 || return 0
  ssh-keyscan -p "$2" "$1" >"$work/server" 2>/dev/null || true
  [ -s "$work/server" ] || {{ echo "$name does not answer"; exit 1; }}
  ssh-keygen -lf "$work/server"
  printf 'Are these the keys of %s? yes or no: ' "$name"; read -r said; [ "$said" = yes ] || exit 1
  cat "$work/server" >>/etc/ssh/ssh_known_hosts
}}
line words 'the 24 words of the recovery key'
[ -z "${{AWS_ACCESS_KEY_ID:-}}" ] || env | grep '^AWS_' >"$work/library-s3-key"
{questions}exit=0
{drills}
exit $exit
"#
    );
    let mut packages = vec!["fuse3", "postgresql", "curl", "ca-certificates"];
    packages.extend((!new.servers.is_empty()).then_some("openssh-client"));
    packages.extend(&new.packages);
    let mut files = vec![("/etc/haven/haven.toml", "0600", new.settings.as_str())];
    files.extend(new.certificates.iter().map(|(path, text)| (path.as_str(), "0644", text.as_str())));
    files.push(("/usr/local/bin/haven-comes-back", "0755", script.as_str()));
    let file = |(path, mode, text): (&str, &str, &str)| {
        format!("\x20 - path: {path}\n\x20   permissions: '{mode}'\n\x20   content: |\n{}", block(text))
    };
    format!(
        "#cloud-config\n\
         # A fresh machine that brings a recovery point back: {program}, SHA-256 {sum}.\n\
         package_update: true\n\
         packages: [{}]\n\
         write_files:\n{}\
         runcmd:\n\
         \x20 - [curl, -fsSL, --retry, '5', -o, /usr/local/bin/haven.new, '{program}']\n\
         \x20 - [sh, -c, \"echo '{sum}  /usr/local/bin/haven.new' | sha256sum -c - && chmod 755 /usr/local/bin/haven.new && mv /usr/local/bin/haven.new /usr/local/bin/haven\"]\n\
         \x20 - [sh, -c, 'apt-get install -y \"postgresql-$(ls /usr/lib/postgresql | sort -n | tail -n 1)-pgvector\" || true']\n",
        packages.join(", "),
        files.into_iter().map(file).collect::<String>(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user_data(program: &str, sum: &str, settings: &str, copies: &[String], apps: &[String]) -> String {
        let new = Elsewhere { settings: settings.into(), ..Elsewhere::default() };
        super::user_data(program, sum, &new, &[], copies, apps)
    }

    #[test]
    fn a_fresh_machine_gets_the_settings_the_program_and_no_secret() {
        let data = user_data(
            "https://x.org/haven",
            "ab12",
            "[library]\nurl = \"s3://b/h\"\n\n[mount]\n",
            &["far".into()],
            &["immich".into(), "papers".into()],
        );
        assert!(data.starts_with("#cloud-config\n"), "{data}");
        assert!(
            data.contains("    content: |\n      [library]\n      url = \"s3://b/h\"\n\n      [mount]\n"),
            "{data}"
        );
        assert!(
            data.contains("--no-record --recovery-words \"$work/words\" --of \"$app\" --copy 'far' \"$@\" || exit=$?"),
            "{data}"
        );
        assert!(data.contains("for app in 'immich' 'papers'; do"), "each has a point of its own: {data}");
        assert!(data.contains("'https://x.org/haven'") && data.contains("echo 'ab12  "), "{data}");
    }

    #[test]
    fn where_the_settings_name_no_application_there_is_a_drill_all_the_same() {
        let data = user_data("https://x.org/haven", "ab12", "[library]\nurl = \"s3://b/h\"\n", &[], &[]);
        assert!(!data.contains("for app in") && !data.contains("$app"), "{data}");
        let drill = "\n      haven drill --config /etc/haven/haven.toml --level 2 --server own --no-record --recovery-words \"$work/words\" \"$@\" || exit=$?\n";
        assert!(data.contains(drill), "{data}");
    }

    /// A file of those that it writes.
    fn content(data: &str, path: &str) -> String {
        let (_, after) = data.split_once(&format!("  - path: {path}\n")).unwrap();
        let (_, text) = after.split_once("content: |\n").unwrap();
        let lines = text.lines().take_while(|line| line.is_empty() || line.starts_with("      "));
        lines.map(|line| line.strip_prefix("      ").unwrap_or(line).to_owned() + "\n").collect()
    }

    #[test]
    fn what_setup_has_written_becomes_settings_and_a_script_that_asks_for_what_opens_them() {
        let owner = "[library]\nurl = 's3://photos/haven'\n[store.s3.credentials]\nfile = '/etc/haven/s3-key'\n\
                     [key]\npassphrase_file = '/etc/haven/passphrase'\n[copy.home]\n\
                     repository = \"ssh://me@nas.example.org:2222/./it's\"\npassphrase_file = '/etc/haven/borg'\n";
        let library = Some("s3://photos/haven");
        let new = Elsewhere::of(&owner.parse().unwrap(), library, &[], &|_| None).unwrap();
        let wants = ["immich: PostgreSQL 16 or newer, with vchord, vector".to_owned()];
        let data = super::user_data("https://x.org/haven", "ab12", &new, &wants, &[], &["immich".into()]);
        assert!(data.contains("packages: [fuse3, postgresql, curl, ca-certificates, openssh-client, borgbackup]\n"));
        let settings = content(&data, "/etc/haven/haven.toml");
        assert!(Config::from_text(&settings, "there").is_ok() && !settings.contains("/etc/"), "{settings}");
        let script = content(&data, "/usr/local/bin/haven-comes-back");
        for line in [
            "#   copy-home-passphrase         the passphrase of the repository ssh://me@nas.example.org:2222/./it's",
            "#   immich: PostgreSQL 16 or newer, with vchord, vector",
            "line 'library-s3-key' 'a key that may read s3://photos/haven: its id and its secret, with a space between'",
            "lines 'copy-home-ssh-key' 'the private SSH key for ssh://me@nas.example.org:2222/./it'\\''s'",
            "known 'nas.example.org' 2222",
        ] {
            assert!(script.lines().any(|there| there == line), "{line}\n{script}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &script).unwrap();
        assert!(
            std::process::Command::new("/bin/sh").arg("-n").arg(file.path()).status().unwrap().success(),
            "{script}"
        );
    }
}
