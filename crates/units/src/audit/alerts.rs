//! Ways in which an alert dies silently, and secrets that lie open.

use super::{
    Finding, Look,
    roles::{runs, tokens},
};

pub fn look(look: Look<'_>, findings: &mut Vec<Finding>) {
    if !look.is_service() {
        return;
    }
    for command in look.unit.commands() {
        let mut text = command.line.to_owned();
        for word in command.line.split_whitespace().take(3) {
            if let Some(script) = look.tree.script(word) {
                text.push('\n');
                text.push_str(&script.replace("\\\n", " "));
            }
        }
        let here = (command.path, command.setting);
        let mut add = |finding: Finding| findings.push(finding.at(here));
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            curl(look, line, &mut add);
        }
        telegram(look, &text, &mut add);
        if open_secret(&text) {
            add(Finding::fail("secret-in-argv", look.unit, "a token or password stands on a command line")
                .matters(
                    "every user and every program of this machine can read it in /proc while the command runs: with it \
                     they speak in your name, or delete your copies",
                )
                .instead("LoadCredential=NAME:/etc/haven/NAME, and a program that reads $CREDENTIALS_DIRECTORY/NAME (haven alert)"));
        }
    }
    for here in look.unit.all("Environment") {
        let named = here.1.value.split_whitespace().find_map(|word| {
            let (name, value) = word.trim_matches(['"', '\'']).split_once('=')?;
            (is_secret(name) && !value.is_empty() && !value.starts_with(['/', '%'])).then(|| name.to_owned())
        });
        if let Some(name) = named {
            let finding = Finding::fail("secret-in-environment", look.unit, format!("Environment= holds {name}"))
                .at((&here.0, &here.1))
                .matters("unit files and systemctl show are open to every user, and children inherit it")
                .instead(format!(
                    "LoadCredential={}:/etc/haven/…, with a file that only root may read",
                    name.to_ascii_lowercase()
                ));
            findings.push(finding);
        }
    }
}

fn curl(look: Look<'_>, line: &str, add: &mut impl FnMut(Finding)) {
    let words: Vec<String> = tokens(line).skip_while(|word| word.rsplit('/').next() != Some("curl")).collect();
    if words.is_empty() {
        return;
    }
    let short = |letter: char| {
        words.iter().any(|word| word.starts_with('-') && !word.starts_with("--") && word.contains(letter))
    };
    let long = |names: &[&str]| words.iter().any(|word| names.iter().any(|name| word.split('=').next() == Some(name)));
    if !(long(&["--fail", "--fail-with-body"]) || short('f')) {
        add(Finding::fail("curl-without-fail", look.unit, "curl without --fail ends well when the server says no")
            .matters("400, 401, 429 and 502 all count as sent: the alert is lost and nobody knows")
            .instead("curl --fail-with-body --max-time 30 --retry 5, or haven alert, which waits for the receipt"));
    }
    if !(long(&["--max-time"]) || short('m')) {
        add(Finding::warn("curl-without-limit", look.unit, "curl without --max-time waits for ever")
            .matters("a server that takes the connection and says nothing holds up this and every later run")
            .instead("--connect-timeout 10 --max-time 30"));
    }
}

fn telegram(look: Look<'_>, text: &str, add: &mut impl FnMut(Finding)) {
    if !text.contains("api.telegram.org") && !text.contains("sendMessage") {
        return;
    }
    let lower = text.to_ascii_lowercase();
    let mode = ["parse_mode=", "parse_mode\":\"", "parse_mode\": \"", "parse_mode\\\":\\\""]
        .iter()
        .find_map(|key| lower.split_once(key))
        .map(|(_, rest)| rest.chars().take_while(char::is_ascii_alphanumeric).collect::<String>());
    if let Some(mode) = mode {
        add(Finding::fail("telegram-markup", look.unit, format!("a log is sent to Telegram as {mode}"))
            .matters(
                "one odd _, *, < or backtick in the log and Telegram answers 400 \"can't parse entities\": the alerts \
                 with an error in them are the ones that do not arrive",
            )
            .instead("no parse_mode; entities:[{type:\"pre\",…}] for the log (haven alert does)"));
    }
    let cut = ["head -c", "tail -c", "cut -c", ":0:4", ":0:3", "sendDocument"].iter().any(|how| text.contains(how));
    if text.contains("journalctl") && !cut {
        add(Finding::warn("telegram-too-long", look.unit, "a log is sent to Telegram whole")
            .matters("above 4096 characters Telegram answers 400; fifteen long lines are enough")
            .instead("cut it in the middle and keep the last error, the whole as a document (haven alert does)"));
    }
}

/// Whether words of a command give a secret away.
fn open_secret(text: &str) -> bool {
    let mut lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.any(|line| {
        let lower = line.to_ascii_lowercase();
        let in_url = lower.split("api.telegram.org/bot").nth(1).is_some_and(|rest| !rest.starts_with('/'));
        let words: Vec<String> = tokens(line).collect();
        let flags = words.iter().enumerate().any(|(n, word)| {
            let Some(flag) = word.strip_prefix("--") else { return false };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, words.get(n + 1).cloned().filter(|next| !next.starts_with('-'))),
            };
            let secret =
                ["token", "password", "passphrase", "secret", "secret-key", "access-token", "api-key"].contains(&name);
            secret && value.is_some_and(|value| !value.starts_with('/') && !value.starts_with("file:"))
        });
        in_url || flags || assigned(&words) || bearer(&lower)
    })
}

/// `env NAME=secret program`: also an argument.
fn assigned(words: &[String]) -> bool {
    let at = words.iter().position(|word| word.rsplit('/').next() == Some("env"));
    at.is_some_and(|at| {
        words[at + 1..]
            .iter()
            .map_while(|word| word.split_once('='))
            .any(|(name, value)| is_secret(name) && !value.is_empty())
    })
}

fn bearer(lower: &str) -> bool {
    runs(lower, &["curl"])
        && ["authorization: bearer ", "authorization:bearer "].iter().any(|head| lower.contains(head))
}

/// Whether a variable of this name holds a secret itself, and not the place of one.
fn is_secret(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let place = ["_FILE", "_PATH", "_COMMAND", "_ID", "PASSCOMMAND"].iter().any(|end| upper.ends_with(end));
    let secret = ["TOKEN", "PASSWORD", "PASSPHRASE", "SECRET", "APIKEY", "API_KEY", "SECRET_ACCESS_KEY", "PRIVATE_KEY"];
    !place && secret.iter().any(|word| upper.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_from_the_places_of_secrets() {
        for open in [
            "curl https://api.telegram.org/bot123:AAF/sendMessage",
            "curl https://api.telegram.org/bot${TOKEN}/sendMessage",
            "restic --password=x backup",
            "tool --token abc",
            "env PGPASSWORD=x pg_dump immich",
            "curl -H 'Authorization: Bearer abc' https://x",
        ] {
            assert!(open_secret(open), "{open}");
        }
        for closed in [
            "haven mount --passphrase-file /etc/haven/passphrase /mnt",
            "restic --password-file /x backup",
            "borg create r::a .",
            "# curl https://api.telegram.org/bot1/x",
            "tool --token /run/credentials/x",
        ] {
            assert!(!open_secret(closed), "{closed}");
        }
        assert!(is_secret("TELEGRAM_TOKEN") && is_secret("AWS_SECRET_ACCESS_KEY") && is_secret("BORG_PASSPHRASE"));
        assert!(!is_secret("HAVEN_PASSPHRASE_FILE") && !is_secret("BORG_PASSCOMMAND") && !is_secret("PATH"));
    }
}
