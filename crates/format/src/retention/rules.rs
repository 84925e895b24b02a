//! A set of rules, as text: `within 1d, daily 7, weekly 4, monthly -1`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::Rule;

/// How far back [`Rule::Within`] keeps: whole hours, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    number: u32,
    unit: char,
}

/// Hours in a unit; months have 31 days and years 365, as `borg` has it.
const UNITS: [(char, i64); 5] = [('H', 1), ('d', 24), ('w', 7 * 24), ('m', 31 * 24), ('y', 365 * 24)];

impl Span {
    pub fn seconds(self) -> i64 {
        let hours = UNITS.iter().find(|(unit, _)| *unit == self.unit).map_or(1, |(_, hours)| *hours);
        i64::from(self.number) * hours * 3600
    }
}

impl FromStr for Span {
    type Err = RulesError;

    fn from_str(text: &str) -> Result<Self, RulesError> {
        let parse = || {
            let unit = text.chars().next_back().filter(|unit| UNITS.iter().any(|(known, _)| known == unit))?;
            let number: u32 = text.strip_suffix(unit)?.parse().ok()?;
            (number > 0).then_some(Self { number, unit })
        };
        parse().ok_or_else(|| RulesError::Span(text.to_owned()))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.number, self.unit)
    }
}

/// Why a text is no set of rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    #[error(
        "\"{0}\" is no rule; there are within, last, minutely, hourly, daily, weekly, monthly and yearly, each followed \
         by a number"
    )]
    Unknown(String),
    #[error("{rule} stands there twice")]
    Twice { rule: Rule },
    #[error("{rule} has no number behind it; -1 keeps all")]
    Alone { rule: Rule },
    #[error("\"{rule} {number}\": how many to keep is a number from 0, or -1 for all")]
    Number { rule: Rule, number: String },
    #[error("\"{0}\" is no span of time: a number above 0, and H, d, w, m or y behind it (hours to years)")]
    Span(String),
    #[error("rules that keep nothing would remove everything; -1 keeps all: \"last -1\"")]
    Nothing,
}

/// What to keep. At least one rule keeps something: a set that would remove everything can't be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    within: Option<Span>,
    /// By the order of [`Rule::PERIODIC`]; 0 keeps none.
    counts: [Count; 7],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    Most(u32),
    All,
}

impl Rules {
    pub fn within(&self) -> Option<Span> {
        self.within
    }

    /// The rules that count, in order, and how many each keeps at most; `None` is all.
    pub fn periodic(&self) -> impl Iterator<Item = (Rule, Option<usize>)> {
        let of = |(rule, count): (Rule, &Count)| match count {
            Count::Most(0) => None,
            Count::Most(most) => Some((rule, Some(*most as usize))),
            Count::All => Some((rule, None)),
        };
        Rule::PERIODIC.into_iter().zip(&self.counts).filter_map(of)
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = self.within.map(|span| format!("within {span}"));
        let counted = self.periodic().map(|(rule, most)| match most {
            Some(most) => format!("{rule} {most}"),
            None => format!("{rule} -1"),
        });
        f.write_str(&within.into_iter().chain(counted).collect::<Vec<_>>().join(", "))
    }
}

/// Also reads what stands in a script that calls `borg prune`: `--keep-within=1d --keep-daily=7`.
impl FromStr for Rules {
    type Err = RulesError;

    fn from_str(text: &str) -> Result<Self, RulesError> {
        let mut within = None;
        let mut counts: [Option<Count>; 7] = [None; 7];
        let separates = |c: char| c.is_whitespace() || c == ',' || c == '=';
        let mut words = text.split(separates).filter(|word| !word.is_empty() && *word != "keep");
        while let Some(word) = words.next() {
            let rule = rule(word)?;
            let number = words.next().ok_or(RulesError::Alone { rule })?;
            let before = match Rule::PERIODIC.iter().position(|periodic| *periodic == rule) {
                None => within.replace(number.parse()?).is_some(),
                Some(at) => counts[at].replace(count(rule, number)?).is_some(),
            };
            if before {
                return Err(RulesError::Twice { rule });
            }
        }
        let rules = Self { within, counts: counts.map(|count| count.unwrap_or(Count::Most(0))) };
        if within.is_none() && rules.periodic().next().is_none() { Err(RulesError::Nothing) } else { Ok(rules) }
    }
}

fn rule(word: &str) -> Result<Rule, RulesError> {
    let name = word.strip_prefix("--").unwrap_or(word);
    let name = name.strip_prefix("keep-").unwrap_or(name);
    let named = |rule: &Rule| rule.name() == name || (*rule == Rule::Last && name == "secondly");
    let all = [Rule::Within].into_iter().chain(Rule::PERIODIC);
    all.into_iter().find(named).ok_or_else(|| RulesError::Unknown(word.to_owned()))
}

fn count(rule: Rule, number: &str) -> Result<Count, RulesError> {
    if number == "-1" {
        return Ok(Count::All);
    }
    number.parse().map(Count::Most).map_err(|_| match self::rule(number) {
        Ok(_) => RulesError::Alone { rule },
        Err(_) => RulesError::Number { rule, number: number.to_owned() },
    })
}

impl Serialize for Rules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
