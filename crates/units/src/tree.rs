//! All units of some directories, each with its drop-ins, as systemd would put them together.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use crate::file::{Setting, UnitFile};

/// Where systemd looks on a machine, the first that has a name counts.
pub const MACHINE: [&str; 4] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"];

const KINDS: [&str; 9] = ["service", "timer", "mount", "automount", "target", "socket", "path", "slice", "scope"];
/// No unit file is longer, in bytes; a script that one calls is not looked at beyond this.
const FILE_MAX: u64 = 256 << 10;

/// A unit with everything that was said of it.
#[derive(Debug, Clone, Default)]
pub struct Unit {
    /// `haven.service`.
    pub name: String,
    /// Its own file; none where there are only drop-ins, for a unit from somewhere else.
    pub path: Option<PathBuf>,
    /// In order: its own, then its drop-ins'. Each with the file it stands in.
    pub settings: Vec<(PathBuf, Setting)>,
    pub comments: Vec<String>,
    pub unreadable: Vec<(PathBuf, usize)>,
}

/// Units by name.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    pub units: BTreeMap<String, Unit>,
    directories: Vec<PathBuf>,
    /// What is to be started with something else: the links in `….wants` and `….requires`.
    enabled: BTreeSet<String>,
}

/// A directory or file that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("{path} can't be read")]
pub struct TreeError {
    pub path: PathBuf,
    pub source: io::Error,
}

impl Tree {
    /// Reads the units of `directories`; where two have one of the same name the first counts, and drop-ins of all do.
    pub fn read(directories: &[PathBuf]) -> Result<Self, TreeError> {
        let mut tree = Self { directories: directories.to_vec(), ..Self::default() };
        let mut dropins: Vec<(String, Vec<PathBuf>)> = Vec::new();
        for directory in directories {
            for path in entries(directory)? {
                let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
                if name.ends_with(".wants") || name.ends_with(".requires") {
                    let links = entries(&path).unwrap_or_default();
                    let names = links.iter().filter_map(|link| link.file_name()?.to_str());
                    tree.enabled.extend(names.map(str::to_owned));
                } else if let Some(unit) = name.strip_suffix(".d").filter(|_| path.is_dir()) {
                    let files =
                        entries(&path)?.into_iter().filter(|file| file.extension().is_some_and(|end| end == "conf"));
                    dropins.push((unit.to_owned(), files.collect()));
                } else if kind(name).is_some() && path.is_file() && !tree.units.contains_key(name) {
                    let mut unit = Unit { name: name.to_owned(), path: Some(path.clone()), ..Unit::default() };
                    unit.take(&path)?;
                    tree.units.insert(name.to_owned(), unit);
                }
            }
        }
        // `service.d` holds for every service.
        let general = |name: &str| KINDS.contains(&name);
        for (of, files) in dropins.iter().filter(|(of, _)| !general(of)) {
            if kind(of).is_none() {
                continue;
            }
            let unit = tree.units.entry(of.clone()).or_insert_with(|| Unit { name: of.clone(), ..Unit::default() });
            for file in files {
                unit.take(file)?;
            }
        }
        for (of, files) in dropins.iter().filter(|(of, _)| general(of)) {
            for unit in tree.units.values_mut().filter(|unit| kind(&unit.name) == Some(of)) {
                for file in files {
                    unit.take(file)?;
                }
            }
        }
        Ok(tree)
    }

    /// The same without templates of which there is no instance: packages lay them down for whoever may want one. There is
    /// one where a unit is so called, where it is enabled, or where a unit that is in use names one.
    pub fn in_use(&self) -> Self {
        let mut idle: BTreeSet<&str> = self.units.keys().map(String::as_str).filter(|name| is_template(name)).collect();
        loop {
            let named = |unit: &Unit, template: &str| {
                unit.settings
                    .iter()
                    .flat_map(|(_, setting)| setting.value.split_whitespace())
                    .any(|word| is_of(word, template))
            };
            let wanted = |template: &&str| {
                let service = template.strip_suffix(".service").map(|name| format!("{name}.timer"));
                // A timer starts the service of its name.
                let timed =
                    service.is_some_and(|timer| self.units.contains_key(&timer) && !idle.contains(timer.as_str()));
                let there = self.units.keys().chain(&self.enabled).any(|name| is_of(name, template));
                let mut users = self.units.values().filter(|unit| !idle.contains(unit.name.as_str()));
                timed || there || users.any(|unit| named(unit, template))
            };
            let found: Vec<&str> = idle.iter().copied().filter(|template| wanted(template)).collect();
            if found.is_empty() {
                break;
            }
            idle.retain(|template| !found.contains(template));
        }
        let units = self.units.iter().filter(|(name, _)| !idle.contains(name.as_str()));
        let units = units.map(|(name, unit)| (name.clone(), unit.clone())).collect();
        Self { units, ..self.clone() }
    }

    /// The unit that `name` means, a template's instance too.
    pub fn get(&self, name: &str) -> Option<&Unit> {
        self.units.get(name).or_else(|| self.units.get(&template(name)?))
    }

    /// The text of a script that a command names, by its path or beside the units.
    pub fn script(&self, command: &str) -> Option<String> {
        let path = Path::new(command);
        let beside = self.directories.iter().map(|directory| directory.join(path.file_name().unwrap_or_default()));
        let found = [path.to_owned()]
            .into_iter()
            .filter(|path| path.is_absolute())
            .chain(beside)
            .find(|path| fs::metadata(path).is_ok_and(|about| about.is_file() && about.len() <= FILE_MAX))?;
        // Programs that are no text are none of our business.
        fs::read_to_string(found).ok().filter(|text| text.starts_with("#!"))
    }
}

fn is_template(name: &str) -> bool {
    name.split_once('@').is_some_and(|(_, after)| after.starts_with('.'))
}

/// Whether `name` is an instance of the template.
fn is_of(name: &str, template: &str) -> bool {
    name != template && self::template(name).is_some_and(|of| of == template)
}

/// `haven-alert@.service` of `haven-alert@x.service`.
fn template(name: &str) -> Option<String> {
    let (before, after) = name.split_once('@')?;
    let (_, end) = after.rsplit_once('.')?;
    Some(format!("{before}@.{end}"))
}

/// `service` of `x.service`.
fn kind(name: &str) -> Option<&str> {
    let (_, end) = name.rsplit_once('.')?;
    KINDS.contains(&end).then_some(end)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, TreeError> {
    let error = |source| TreeError { path: directory.to_owned(), source };
    let found = fs::read_dir(directory).map_err(error)?;
    let mut paths = found.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(error)?;
    paths.sort();
    Ok(paths)
}

impl Unit {
    fn take(&mut self, path: &Path) -> Result<(), TreeError> {
        let error = |source| TreeError { path: path.to_owned(), source };
        if fs::metadata(path).map_err(error)?.len() > FILE_MAX {
            return Err(error(io::Error::new(io::ErrorKind::FileTooLarge, "no unit file is that long")));
        }
        let file = UnitFile::parse(&String::from_utf8_lossy(&fs::read(path).map_err(error)?));
        self.comments.extend(file.comments);
        self.unreadable.extend(file.unreadable.into_iter().map(|line| (path.to_owned(), line)));
        self.settings.extend(file.settings.into_iter().map(|setting| (path.to_owned(), setting)));
        Ok(())
    }

    pub fn kind(&self) -> &str {
        kind(&self.name).unwrap_or_default()
    }

    /// The one that counts of a setting that counts once: the last. Emptied is not set.
    pub fn last(&self, key: &str) -> Option<&(PathBuf, Setting)> {
        self.settings.iter().rfind(|(_, setting)| setting.key == key).filter(|(_, setting)| !setting.value.is_empty())
    }

    pub fn value(&self, key: &str) -> Option<&str> {
        self.last(key).map(|(_, setting)| setting.value.as_str())
    }

    /// Every one that counts of a setting that adds up; an empty one takes back what was before.
    pub fn all(&self, key: &str) -> Vec<&(PathBuf, Setting)> {
        let mut out = Vec::new();
        for entry in self.settings.iter().filter(|(_, setting)| setting.key == key) {
            match entry.1.value.is_empty() {
                true => out.clear(),
                false => out.push(entry),
            }
        }
        out
    }

    /// The words of a list that adds up.
    pub fn words(&self, key: &str) -> Vec<&str> {
        self.all(key).into_iter().flat_map(|(_, setting)| setting.value.split_whitespace()).collect()
    }

    pub fn is_on(&self, key: &str) -> bool {
        self.value(key).is_some_and(|value| ["yes", "true", "on", "1"].contains(&value.to_ascii_lowercase().as_str()))
    }

    /// All commands, without what systemd reads from their first signs.
    pub fn commands(&self) -> Vec<Command<'_>> {
        let keys =
            ["ExecStartPre", "ExecStart", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost", "ExecCondition"];
        let all = keys.iter().flat_map(|key| self.all(key));
        all.map(|(path, setting)| {
            let line = setting.value.trim_start_matches(['-', '@', ':', '+', '!']);
            let signs = &setting.value[..setting.value.len() - line.len()];
            Command { path, setting, line: line.trim(), forgiving: signs.contains('-') }
        })
        .collect()
    }
}

/// A command line of a unit.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    pub path: &'a PathBuf,
    pub setting: &'a Setting,
    pub line: &'a str,
    /// `-`: systemd takes its failure for success.
    pub forgiving: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Tree::read(&[directory.path().to_owned()]).unwrap()
    }

    #[test]
    fn drop_ins_go_over_the_unit_and_add_to_its_lists() {
        let tree = tree(&[
            ("a.service", "[Unit]\nAfter=x\n[Service]\nType=simple\nExecStart=/bin/one\n"),
            ("a.service.d/50.conf", "[Unit]\nAfter=y z\n[Service]\nType=notify\nExecStart=\nExecStart=-/bin/two\n"),
            ("service.d/10.conf", "[Unit]\nOnFailure=tell@%n.service\n"),
            ("b.timer", "[Timer]\nOnCalendar=daily\n"),
            ("notes.txt", "nothing"),
        ]);
        let unit = tree.get("a.service").unwrap();
        assert_eq!((unit.words("After"), unit.value("Type")), (vec!["x", "y", "z"], Some("notify")));
        assert_eq!(unit.commands().iter().map(|c| (c.line, c.forgiving)).collect::<Vec<_>>(), [("/bin/two", true)]);
        assert_eq!(unit.value("OnFailure"), Some("tell@%n.service"));
        assert_eq!(tree.get("b.timer").unwrap().value("OnFailure"), None);
        assert_eq!(tree.units.len(), 2);
    }

    #[test]
    fn an_instance_is_its_template() {
        let tree = tree(&[("tell@.service", "[Service]\nExecStart=/bin/true\n")]);
        assert!(tree.get("tell@x.service").is_some());
        assert!(tree.get("other@x.service").is_none());
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error_with_its_name() {
        let error = Tree::read(&["/nowhere/at/all".into()]).unwrap_err();
        assert_eq!(error.to_string(), "/nowhere/at/all can't be read");
    }
}
