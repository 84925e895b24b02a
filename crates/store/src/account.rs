//! Whose process this is, where the environment does not say: systemd sets HOME and LOGNAME only for units that name a user.

use std::{fs, path::PathBuf};

/// The user's home directory: the environment's word, else the system's.
pub fn home() -> Option<PathBuf> {
    std::env::home_dir().filter(|path| path.is_absolute())
}

/// What the system calls the user whose rights this process has.
pub(crate) fn name() -> Option<String> {
    let users = fs::read("/etc/passwd").ok()?;
    name_in(&String::from_utf8_lossy(&users), rustix::process::geteuid().as_raw())
}

fn name_in(users: &str, id: u32) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse::<u32>() == Ok(id)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_number_and_lines_that_are_none_are_passed_over() {
        let users =
            "root:x:0:0:root:/root:/bin/bash\n+::::::\nbroken\nphotos:x:1000:1000:Grün,,,:/home/photos:/bin/sh\n";
        assert_eq!(name_in(users, 0).as_deref(), Some("root"));
        assert_eq!(name_in(users, 1000).as_deref(), Some("photos"));
        assert_eq!(name_in(users, 7), None);
    }
}
