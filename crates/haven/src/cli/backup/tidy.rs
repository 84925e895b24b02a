use haven_format::retention::Rules;
use haven_mount::control::Request;
use haven_point::{SEAL, list, open};
use serde_json::json;

use crate::{
    cli::{Context, snapshot::parse_until},
    points::{
        Alone, Home, point_of, quiesce,
        tidy::{self, Removed},
        trouble,
    },
    reach::Which,
    report::{Code, Trouble, UNTOUCHED},
    words,
};

pub fn prune(
    context: &Context,
    which: &Which,
    rules: Option<String>,
    of: Option<&str>,
    dry: bool,
) -> Result<(), Trouble> {
    let app = context.config.app(of)?;
    let rules = rules.or_else(|| app.common.keep.clone()).ok_or_else(|| {
        Trouble::new(Code::Usage, "no rules were given")
            .meaning(UNTOUCHED)
            .next("haven backup prune 'within 1d, daily 7, weekly 4, monthly -1', or set backup.keep in haven.toml")
    })?;
    let rules: Rules = rules.parse::<Rules>().map_err(|error| {
        Trouble::new(Code::Usage, "these rules can't be meant").caused_by(&error).meaning(UNTOUCHED)
    })?;
    let home = Home::of(context, which)?;
    let _alone = (!dry).then(|| Alone::with(&home.at.cache, &app.name)).transpose()?;
    let all = list(&home.root).map_err(|error| trouble(&error))?;
    let judged = tidy::judge(&all, &home.snapshots()?, &app.name, &rules);
    let go: Vec<String> = judged.iter().filter(|judged| !judged.keep).map(|judged| judged.name.clone()).collect();
    let removed = tidy::remove(&home, &context.config.apps, &go, dry)?;
    let goes = if dry { "would go" } else { "removed" };
    let fate = |name: &String| if removed.names.contains(name) { goes } else { "stays" };
    let row = |j: &crate::past::Judged| {
        let fate = if j.keep { "keeps" } else { fate(&j.name) };
        [fate.to_owned(), j.name.clone(), j.taken.clone(), j.why.clone()]
    };
    let rows: Vec<_> = judged.iter().map(row).collect();
    let text = words::table(["", "NAME", "TAKEN", "WHY"], &rows) + &beside_lines(&removed, goes);
    let stay: Vec<&String> = removed.stay.iter().map(|(name, _)| name).collect();
    context.answer(&json!({ "points": judged, "dry_run": dry, "beside": removed.beside, "stay": stay }), &text)?;
    removed.told()
}

fn beside_lines(removed: &Removed, did: &str) -> String {
    removed.beside.iter().map(|copy| format!("{did} {}, the copy of its dump\n", copy.display())).collect()
}

pub fn remove(context: &Context, which: &Which, names: &[String], dry: bool) -> Result<(), Trouble> {
    let home = Home::of(context, which)?;
    let mut locks = Vec::new();
    let mut of: Vec<&str> = names.iter().filter_map(|name| haven_point::application(name)).collect();
    of.sort_unstable();
    of.dedup();
    for of in of {
        locks.push(Alone::with(&home.at.cache, of)?);
    }
    let removed = tidy::remove(&home, &context.config.apps, names, dry)?;
    let did = if dry { "would remove" } else { "removed" };
    let text: String = removed.names.iter().map(|name| format!("{did} {name}\n")).collect();
    context.answer(
        &json!({ "removed": removed.names, "dry_run": dry, "beside": removed.beside }),
        &(text + &beside_lines(&removed, did)),
    )?;
    removed.told()
}

pub fn protect(context: &Context, which: &Which, name: &str, until: &str, shorten: bool) -> Result<(), Trouble> {
    let until = parse_until(until)?;
    let home = Home::of(context, which)?;
    let point = open(&home.root, Some(name), None).map_err(|error| trouble(&error).meaning(UNTOUCHED))?;
    // Both halves: a point that is not sealed has one.
    let mut names = vec![point.manifest.files.snapshot.clone()];
    names.extend(point.sealed.then(|| format!("{name}{SEAL}")));
    for name in &names {
        let request =
            Request::new("snapshot protect").with("name", name.clone()).with("until", until).with("shorten", shorten);
        home.ask(&request, "protecting")?;
    }
    context.answer(&json!({ "protected": name, "until": until, "snapshots": names }), "")
}

pub fn resume(context: &Context, which: &Which, of: Option<&str>) -> Result<(), Trouble> {
    let app = context.config.app(of)?;
    let home = Home::of(context, which)?;
    let _alone = Alone::with(&home.at.cache, &app.name)?;
    let there = quiesce::resume(&home.at.cache, &app.name).map_err(|why| {
        Trouble::new(Code::Point, format!("{} may still be stopped", app.name)).because(why).next("start it by hand")
    })?;
    let left = home
        .snapshots()?
        .iter()
        .filter_map(|s| point_of(&s.name))
        .filter(|name| {
            haven_point::application(name) == Some(app.name.as_str()) && open(&home.root, Some(name), None).is_err()
        })
        .count();
    let text = match (there, left) {
        (true, _) => format!("{} goes on\n", app.name),
        (false, _) => format!("no run has left {} stopped\n", app.name),
    };
    context.answer(&json!({ "application": app.name, "was_stopped": there, "unfinished": left }), &text)
}
