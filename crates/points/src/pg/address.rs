//! What libpq is given, taken apart and put together: a URL, `key=value` pairs, or a database's bare name.

/// What it says of `key`: `dbname`, `user`, `host`. `None`: nothing (a service file may, or the environment).
pub fn value(text: &str, key: &str) -> Option<String> {
    let text = text.trim();
    let Some((_, rest)) = scheme(text) else {
        return match key {
            _ if text.contains('=') => pairs(text).into_iter().rfind(|(name, _)| name == key).map(|(_, value)| value),
            "dbname" => (!text.is_empty()).then(|| text.to_owned()),
            _ => None,
        };
    };
    let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = before.split_once('/').unwrap_or((before, ""));
    // Of two the last one counts.
    let asked = query.split('&').filter_map(|pair| pair.split_once('=')).rfind(|(name, _)| *name == key);
    let inside = match key {
        "dbname" => path,
        "user" => authority.rsplit_once('@').map_or("", |(who, _)| who.split(':').next().unwrap_or_default()),
        _ => "",
    };
    Some(asked.map_or(inside, |(_, value)| value)).filter(|value| !value.is_empty()).map(decoded)
}

/// The same database, asked as `user`.
pub fn with_user(text: &str, user: &str) -> String {
    let text = text.trim();
    if scheme(text).is_some() {
        let and = if text.contains('?') { '&' } else { '?' };
        format!("{text}{and}user={}", encoded(user))
    } else if text.contains('=') {
        format!("{text} user={}", quoted(user))
    } else {
        format!("dbname={} user={}", quoted(text), quoted(user))
    }
}

/// Scheme and rest, where it is a URL.
pub fn scheme(text: &str) -> Option<(&str, &str)> {
    text.split_once("://").filter(|(scheme, _)| ["postgresql", "postgres"].contains(scheme))
}

/// `key=value key='va lue'`, as libpq reads it.
pub fn pairs(text: &str) -> Vec<(String, String)> {
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

/// For a pair.
pub fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// For a URL.
pub fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    name.bytes().map(|byte| if plain(byte) { (byte as char).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Out of a URL.
pub fn decoded(text: &str) -> String {
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

    #[test]
    fn whose_and_which_it_is_stands_in_whatever_libpq_takes() {
        let cases = [
            ("immich", Some("immich"), None, "dbname='immich' user='post gres'"),
            ("postgresql:///immich?host=/run", Some("immich"), None, "postgresql:///immich?host=/run&user=post%20gres"),
            ("postgres://u:x@db/i%20m", Some("i m"), Some("u"), "postgres://u:x@db/i%20m?user=post%20gres"),
            ("postgresql://u@/x?user=v", Some("x"), Some("v"), "postgresql://u@/x?user=v&user=post%20gres"),
            ("host=/run user='a b' dbname=x", Some("x"), Some("a b"), "host=/run user='a b' dbname=x user='post gres'"),
            ("service=immich", None, None, "service=immich user='post gres'"),
        ];
        for (text, name, user, changed) in cases {
            assert_eq!(value(text, "dbname").as_deref(), name, "{text}");
            assert_eq!(value(text, "user").as_deref(), user, "{text}");
            assert_eq!(with_user(text, "post gres"), changed);
            assert_eq!(value(changed, "user").as_deref(), Some("post gres"), "{changed}");
        }
        assert_eq!(value("postgresql:///immich?host=/run%2Fpg", "host").as_deref(), Some("/run/pg"));
    }
}
