//! Other databases of the same server, by changing the name in what libpq is given.

use haven_point::pg::{
    Reach,
    address::{self, encoded, pairs, quoted, scheme},
};

/// The database that `reach` names; `None`: it does not say (a service file does, or the user's name).
pub fn name(reach: &Reach) -> Option<String> {
    address::value(&reach.database, "dbname")
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
