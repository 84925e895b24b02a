//! What Apple sends to who asks for a copy of iCloud Photos: `iCloud Photos Part 1 of 9/Photos/` with the originals and
//! `Photo Details.csv`, `Photo Details-1.csv`, …; `Albums/NAME.csv` with the names of members; `Memories/` and
//! `Recently Deleted/`. Names are not unique. The form of the tables was read in the sources and documents of several
//! programs that read them.

use jiff::civil::DateTime;

/// What Apple knew of a photo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detail {
    /// Of the file beside the table.
    pub name: String,
    /// Seconds since 1970. Minutes are all that Apple tells.
    pub taken: Option<i64>,
    pub favourite: bool,
    pub hidden: bool,
    pub deleted: bool,
}

/// A table of the export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Table {
    Details(Vec<Detail>),
    /// The names of an album's photos.
    Members(Vec<String>),
}

/// Reads a table; none where it is another one.
pub fn table(text: &str) -> Option<Table> {
    let mut records = records(text.trim_start_matches('\u{feff}'));
    let head = records.next()?;
    let column = |name: &str| head.iter().position(|own| own.trim() == name);
    if let (Some(name), Some(taken)) = (column("imgName"), column("originalCreationDate")) {
        let flags = ["favorite", "hidden", "deleted"].map(column);
        let details = records.filter_map(|record| {
            let yes = |at: Option<usize>| at.and_then(|at| record.get(at)).is_some_and(|text| text.trim() == "yes");
            // A date without quotes is cut by its comma.
            let date = record.get(taken).map(|text| match (date(text), record.get(taken + 1)) {
                (None, Some(rest)) => date(&format!("{text},{rest}")),
                (date, _) => date,
            });
            Some(Detail {
                name: record.get(name).filter(|name| !name.is_empty())?.clone(),
                taken: date.flatten(),
                favourite: yes(flags[0]),
                hidden: yes(flags[1]),
                deleted: yes(flags[2]),
            })
        });
        return Some(Table::Details(details.collect()));
    }
    let only = head.len() == 1 && ["Images", "imgName", "imageName"].contains(&head[0].trim());
    only.then(|| Table::Members(records.filter_map(|record| record.into_iter().next()).collect()))
}

/// The records of a table with commas: fields may stand in quotes, in which two of them are one. For the one table there is
/// here, a crate for all of them would bring more than it saves.
fn records(text: &str) -> impl Iterator<Item = Vec<String>> {
    let mut rest = text.chars().peekable();
    std::iter::from_fn(move || {
        rest.peek()?;
        let (mut record, mut field, mut quoted) = (vec![], String::new(), false);
        while let Some(c) = rest.next() {
            match c {
                '"' if quoted && rest.peek() == Some(&'"') => {
                    field.push('"');
                    rest.next();
                }
                '"' if quoted || field.is_empty() => quoted = !quoted,
                ',' if !quoted => record.push(std::mem::take(&mut field)),
                '\n' if !quoted => break,
                '\r' if !quoted => {}
                c => field.push(c),
            }
        }
        record.push(field);
        Some(record)
    })
    .filter(|record| record.len() > 1 || !record[0].is_empty())
}

/// `Saturday June 4,2022 12:11 PM GMT`; hours after 12 are met with PM too.
fn date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = text.trim().strip_suffix("GMT")?.replace(',', " ");
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, month, day, year, clock, half] = words[..] else { return None };
    let month = MONTHS.iter().position(|known| month.starts_with(known))? as i8 + 1;
    let (hour, minute) = clock.split_once(':')?;
    let hour: i8 = hour.parse().ok()?;
    let hour = match (half, hour) {
        ("AM", 12) => 0,
        ("PM", 1..12) => hour + 12,
        _ => hour,
    };
    let date = DateTime::new(year.parse().ok()?, month, day.parse().ok()?, hour, minute.parse().ok()?, 0, 0).ok()?;
    Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_and_members_are_read_and_other_tables_are_not() {
        let text = "imgName,fileChecksum,favorite,hidden,deleted,originalCreationDate,viewCount,importDate\n\
                    IMG_1.HEIC,x,yes,no,no,\"Saturday June 4,2022 12:11 PM GMT\",10,\"Saturday June 4,2022 12:11 PM GMT\"\n\
                    IMG_2.JPG,y,no,yes,yes,Monday January 3,2022 12:05 AM GMT,0,\n";
        let Some(Table::Details(details)) = table(text) else { panic!("a table of details") };
        assert_eq!((details[0].taken, details[0].favourite, details[0].hidden), (Some(1_654_344_660), true, false));
        assert_eq!((details[1].taken, details[1].hidden, details[1].deleted), (Some(1_641_168_300), true, true));
        assert_eq!(table("Images\nIMG_1.HEIC\n"), Some(Table::Members(vec!["IMG_1.HEIC".to_owned()])));
        let odd: Vec<_> = records("a,\"b \"\"c\"\", d\"\r\n\r\n\"e\nf\",").collect();
        assert_eq!(odd, [["a", "b \"c\", d"], ["e\nf", ""]]);
        assert_eq!((table("a,b\n1,2\n"), table("")), (None, None));
        assert_eq!(date("Saturday June 18,2022 14:00 PM GMT"), date("Saturday June 18,2022 2:00 PM GMT"));
    }
}
