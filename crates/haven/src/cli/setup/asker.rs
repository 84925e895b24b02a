//! Questions and their answers: from a person at a terminal, or from a file. Both go the same way, so what a script sets
//! up is what a person would have been asked.

use std::{
    collections::BTreeSet,
    io::{BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
};

use toml::{Table, Value};
use zeroize::Zeroizing;

use crate::report::{Code, Trouble, UNTOUCHED};

/// Every answer there may be in a file.
pub const ANSWERS: [&str; 31] = [
    "bucket.url",
    "bucket.endpoint",
    "bucket.region",
    "bucket.key_id",
    "bucket.secret_file",
    "keys.passphrase_file",
    "keys.kit",
    "mount.point",
    "mount.allow_other",
    "mount.cache",
    "mount.cache_size",
    "database.container",
    "database.url",
    "database.folder",
    "database.owner",
    "tell.kind",
    "tell.url",
    "tell.topic",
    "tell.chat",
    "tell.secret_file",
    "tell.server",
    "tell.user",
    "tell.from",
    "tell.to",
    "machine.units",
    "machine.immich",
    "machine.first_point",
    "machine.try_mount",
    "tell.tls",
    "tell.switch",
    "tell.switch_file",
];

/// Who answers.
pub enum Asker {
    Person,
    File { path: PathBuf, answers: Table },
}

impl Asker {
    /// A person, where there is a terminal.
    pub fn person() -> Result<Self, Trouble> {
        if std::io::stdin().is_terminal() {
            return Ok(Self::Person);
        }
        Err(Trouble::new(Code::Usage, "there is no terminal to ask on")
            .meaning(UNTOUCHED)
            .next("haven setup --answers FILE    and haven setup --help shows what stands in it"))
    }

    pub fn file(path: &Path) -> Result<Self, Trouble> {
        let shown = path.display();
        let bad = |what: String| Trouble::new(Code::Usage, what).meaning(UNTOUCHED);
        let text = std::fs::read_to_string(path)
            .map_err(|error| bad(format!("the answers in {shown} can't be read")).caused_by(&error))?;
        let answers: Table = text
            .parse()
            .map_err(|error: toml::de::Error| bad(format!("{shown} is not TOML")).because(error.message()))?;
        let mut given = BTreeSet::new();
        for (section, value) in &answers {
            match value {
                Value::Table(inner) => given.extend(inner.keys().map(|key| format!("{section}.{key}"))),
                _ => _ = given.insert(section.clone()),
            }
        }
        if let Some(unknown) = given.iter().find(|name| !ANSWERS.contains(&name.as_str())) {
            let known: Vec<String> = ANSWERS.iter().map(|&name| name.to_owned()).collect();
            let trouble = bad(format!("{shown} answers {unknown}, which nobody asks"));
            return Err(match crate::config::nearest(unknown, &known) {
                Some(near) => trouble.next(format!("is it {near}?")),
                None => trouble.next("haven setup --help shows what may stand there"),
            });
        }
        Ok(Self::File { path: path.to_owned(), answers })
    }

    pub fn is_person(&self) -> bool {
        matches!(self, Self::Person)
    }

    fn in_file(&self, name: &str) -> Option<String> {
        let Self::File { answers, .. } = self else { return None };
        let (section, key) = name.split_once('.')?;
        match answers.get(section)?.get(key)? {
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    /// Asks; an empty answer is the default, where there is one.
    pub fn ask(&self, name: &str, question: &str, default: Option<&str>) -> Result<String, Trouble> {
        match self {
            Self::File { path, .. } => {
                let given = self.in_file(name).or_else(|| default.map(str::to_owned));
                given.ok_or_else(|| {
                    Trouble::new(Code::Usage, format!("{} does not answer {name}", path.display()))
                        .because(question.to_owned())
                        .meaning(UNTOUCHED)
                })
            }
            Self::Person => loop {
                let shown =
                    default.filter(|text| !text.is_empty()).map(|text| format!(" [{text}]")).unwrap_or_default();
                let answer = read_line(&format!("{question}{shown}: "))?;
                match (answer.is_empty(), default) {
                    (false, _) => return Ok(answer),
                    (true, Some(default)) => return Ok(default.to_owned()),
                    (true, None) => {}
                }
            },
        }
    }

    pub fn ask_yes(&self, name: &str, question: &str, default: bool) -> Result<bool, Trouble> {
        let word = if default { "yes" } else { "no" };
        loop {
            let answer = self.ask(name, question, Some(word))?.to_ascii_lowercase();
            match answer.as_str() {
                "y" | "yes" | "true" => return Ok(true),
                "n" | "no" | "false" => return Ok(false),
                _ if self.is_person() => say("yes or no?"),
                _ => {
                    return Err(
                        Trouble::new(Code::Usage, format!("{name} is yes or no, not {answer:?}")).meaning(UNTOUCHED)
                    );
                }
            }
        }
    }

    /// A secret: typed without being shown, or the first line of the file that the answers name. None: nothing was typed.
    pub fn ask_secret(&self, name: &str, question: &str) -> Result<Option<Zeroizing<String>>, Trouble> {
        if self.is_person() {
            let typed =
                rpassword::prompt_password(format!("{question} (is not shown): ")).map_err(|error| ended(&error))?;
            return Ok((!typed.is_empty()).then(|| Zeroizing::new(typed)));
        }
        let Some(path) = self.in_file(name) else { return Ok(None) };
        let text = std::fs::read_to_string(&path).map(Zeroizing::new).map_err(|error| {
            Trouble::new(Code::Usage, format!("{path}, named by {name}, can't be read"))
                .caused_by(&error)
                .meaning(UNTOUCHED)
        })?;
        Ok(text.lines().next().map(|line| Zeroizing::new(line.trim().to_owned())).filter(|line| !line.is_empty()))
    }

    /// Does `work` until it goes well: a person is told what is wrong and asked again, a file has one try.
    pub fn until<T>(&self, mut work: impl FnMut() -> Result<T, Trouble>) -> Result<T, Trouble> {
        loop {
            match work() {
                Err(trouble) if self.is_person() && trouble.code != Code::Unfinished => {
                    trouble.tell(false);
                    say("\nOnce more:");
                }
                result => return result,
            }
        }
    }
}

/// A word to whoever sits there. On stderr: the answer of this command is on stdout.
pub fn say(text: &str) {
    _ = writeln!(std::io::stderr(), "{text}");
}

fn read_line(prompt: &str) -> Result<String, Trouble> {
    _ = write!(std::io::stderr(), "{prompt}");
    _ = std::io::stderr().flush();
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line).map_err(|error| ended(&error))?;
    if read == 0 {
        return Err(ended(&std::io::Error::from(std::io::ErrorKind::UnexpectedEof)));
    }
    Ok(line.trim().to_owned())
}

fn ended(error: &std::io::Error) -> Trouble {
    Trouble::new(Code::Unfinished, "the answers ended before the questions")
        .caused_by(error)
        .meaning("nothing was set up; start again at any time")
}
