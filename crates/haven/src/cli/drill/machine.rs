//! Level 3: what a fresh machine needs to bring everything back alone, as cloud-init's user data, and the one command.
//!
//! No secret is in it: whoever runs the command types the recovery key, and the store's credentials where there are any.

use std::fs;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;

use super::{Args, Context};
use crate::{
    report::{Code, Trouble, UNTOUCHED},
    wire,
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
    let settings = match &context.config.from {
        Some(path) => fs::read_to_string(path).map_err(|error| local("haven.toml can't be read", &error))?,
        None => {
            let url = context.config.library.url.clone().ok_or_else(|| usage("no library was named"))?;
            format!("[library]\nurl = {}\n", serde_json::Value::from(url))
        }
    };
    fs::create_dir_all(to).map_err(|error| local("the directory can't be made", &error))?;
    let apps: Vec<String> = match (&args.point, &args.of) {
        (None, None) => context.config.apps.iter().map(|app| app.name.clone()).collect(),
        (None, Some(of)) => vec![of.clone()],
        (Some(_), _) => return Err(usage("a fresh machine proves the newest point: --of says of which application")),
    };
    let data = user_data(program, &sum, &settings, &args.copy, &apps);
    let path = to.join("user-data");
    fs::write(&path, data).map_err(|error| local("user-data can't be written", &error))?;
    let command = "ssh -t root@NEW-MACHINE haven-comes-back";
    let text = format!(
        "wrote {}: hand it to a new Debian or Ubuntu machine as its user data (cloud-init), then\n  {command}\nIt asks for the recovery key, proves a point with a drill of level 2, and tells how long that took.\n",
        path.display()
    );
    context.answer(&json!({ "user_data": path, "command": command, "sha256": sum, "host": wire::host() }), &text)
}

/// A block of text in YAML.
fn block(text: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("      {line}\n") }).collect()
}

fn user_data(program: &str, sum: &str, settings: &str, copies: &[String], apps: &[String]) -> String {
    let quoted = |name: &String| format!(" '{}'", name.replace('\'', "'\\''"));
    let copies: String = copies.iter().map(|name| format!(" --copy{}", quoted(name))).collect();
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
            let apps: String = apps.iter().map(quoted).collect();
            format!("for app in{apps}; do\n  {}\ndone", drill(" --of \"$app\""))
        }
    };
    let script = format!(
        r#"#!/bin/sh
# Proves on this machine, which has nothing of the old one, that a recovery point comes back.
set -eu
umask 077
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
echo "The 24 words of the recovery key, then Enter:"
read -r words; printf '%s\n' "$words" >"$work/words"
if grep -q 's3://' /etc/haven/haven.toml && [ -z "${{AWS_ACCESS_KEY_ID:-}}" ]; then
  printf 'Access key id of the store (for reading only): '; read -r AWS_ACCESS_KEY_ID
  printf 'Secret access key: '; read -r AWS_SECRET_ACCESS_KEY
  export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
fi
exit=0
{drills}
exit $exit
"#
    );
    format!(
        "#cloud-config\n\
         # A fresh machine that brings a recovery point back: {program}, SHA-256 {sum}.\n\
         package_update: true\n\
         packages: [fuse3, postgresql, curl, ca-certificates]\n\
         write_files:\n\
         \x20 - path: /etc/haven/haven.toml\n\x20   permissions: '0600'\n\x20   content: |\n{}\
         \x20 - path: /usr/local/bin/haven-comes-back\n\x20   permissions: '0755'\n\x20   content: |\n{}\
         runcmd:\n\
         \x20 - [curl, -fsSL, --retry, '5', -o, /usr/local/bin/haven.new, '{program}']\n\
         \x20 - [sh, -c, \"echo '{sum}  /usr/local/bin/haven.new' | sha256sum -c - && chmod 755 /usr/local/bin/haven.new && mv /usr/local/bin/haven.new /usr/local/bin/haven\"]\n",
        block(settings),
        block(&script)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
