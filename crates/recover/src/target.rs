//! Other databases of the same server, by changing the name in what libpq is given.

use haven_point::pg::Reach;

/// The database that `reach` names; `None`: it does not say (a service file does, or the user's name).
pub fn name(reach: &Reach) -> Option<String> {
    let text = reach.database.trim();
    if let Some((_, rest)) = scheme(text) {
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = before.split_once('/').map_or("", |(_, path)| path);
        let asked = query.split('&').find_map(|pair| pair.strip_prefix("dbname="));
        return asked.or(Some(path)).filter(|name| !name.is_empty()).map(decoded);
    }
    if !text.contains('=') {
        return (!text.is_empty()).then(|| text.to_owned());
    }
    pairs(text).into_iter().rfind(|(key, _)| key == "dbname").map(|(_, value)| value)
}

/// The same server, user and all, and the database `name`.
pub fn with(reach: &Reach, name: &str) -> Reach {
    let text = reach.database.trim();
    let database = if let Some((scheme, rest)) = scheme(text) {
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        let host = before.split_once('/').map_or(before, |(host, _)| host);
        let query: Vec<&str> =
            query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("dbname=")).collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        format!("{scheme}://{host}/{}{query}", encoded(name))
    } else if text.contains('=') {
        let other = pairs(text).into_iter().filter(|(key, _)| key != "dbname");
        let all = other.chain([("dbname".to_owned(), name.to_owned())]);
        all.map(|(key, value)| format!("{key}={}", quoted(&value))).collect::<Vec<_>>().join(" ")
    } else {
        // A bare name can't hold every character; a pair can.
        format!("dbname={}", quoted(name))
    };
    Reach { database, ..reach.clone() }
}

fn scheme(text: &str) -> Option<(&str, &str)> {
    text.split_once("://").filter(|(scheme, _)| ["postgresql", "postgres"].contains(scheme))
}

/// `key=value key='va lue'`, as libpq reads it.
fn pairs(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some((key, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let (quoted, body) = match after.strip_prefix('\'') {
            Some(body) => (true, body),
            None => (false, after),
        };
        let (mut value, mut end, mut escaped) = (String::new(), body.len(), false);
        for (at, character) in body.char_indices() {
            match character {
                _ if escaped => {
                    value.push(character);
                    escaped = false;
                }
                '\\' => escaped = true,
                '\'' if quoted => {
                    end = at + 1;
                    break;
                }
                other if !quoted && other.is_whitespace() => {
                    end = at;
                    break;
                }
                other => value.push(other),
            }
        }
        found.push((key.trim().to_owned(), value));
        rest = body[end..].trim_start();
    }
    found
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    name.bytes().map(|byte| if plain(byte) { (byte as char).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn decoded(text: &str) -> String {
    let (mut out, mut bytes) = (Vec::new(), text.bytes());
    while let Some(byte) = bytes.next() {
        let hex = |byte: Option<u8>| byte.and_then(|byte| (byte as char).to_digit(16));
        match byte {
            b'%' => match (hex(bytes.next()), hex(bytes.next())) {
                (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
                _ => out.push(b'%'),
            },
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(text: &str) -> Reach {
        Reach { database: text.into(), ..Reach::default() }
    }

    #[test]
    fn the_name_is_found_and_changed_in_whatever_libpq_takes() {
        let cases = [
            ("immich", Some("immich"), "dbname='n e''w'"),
            ("postgresql:///immich?host=/run/pg", Some("immich"), "postgresql:///n%20e%27w?host=/run/pg"),
            ("postgres://u@db:5433/im%20mich", Some("im mich"), "postgres://u@db:5433/n%20e%27w"),
            ("postgresql://u@db?dbname=x&sslmode=require", Some("x"), "postgresql://u@db/n%20e%27w?sslmode=require"),
            ("host=/run user='a b' dbname = immich", Some("immich"), "host='/run' user='a b' dbname='n e\\'w'"),
            ("service=immich", None, "service='immich' dbname='n e\\'w'"),
        ];
        for (text, found, changed) in cases {
            assert_eq!(name(&reach(text)).as_deref(), found, "{text}");
            let changed = changed.replace("''w", "\\'w");
            assert_eq!(with(&reach(text), "n e'w").database, changed, "{text}");
            assert_eq!(name(&with(&reach(text), "n e'w")).as_deref(), Some("n e'w"), "{text}");
        }
    }
}
