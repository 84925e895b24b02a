//! Points in time as S3 writes them, to and from seconds since the Unix epoch (UTC, no leap seconds).

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar.
fn days_from_date(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March here, so that the leap day is the last of a year.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn date_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// `20261123T044629Z`, as request signatures want it.
pub(crate) fn compact(seconds: i64) -> String {
    let (year, month, day) = date_from_days(seconds.div_euclid(86_400));
    let rest = seconds.rem_euclid(86_400);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// `2026-11-23T04:46:29Z`.
pub(crate) fn iso(seconds: i64) -> String {
    let (year, month, day) = date_from_days(seconds.div_euclid(86_400));
    let rest = seconds.rem_euclid(86_400);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Reads `Mon, 23 Nov 2026 04:46:29 GMT`, as HTTP headers have it.
pub(crate) fn parse_http(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split(' ');
    let day = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|m| *m == month)? as i64 + 1;
    let year = words.next()?.parse().ok()?;
    let time = parse_time(words.next()?)?;
    Some(days_from_date(year, month, day) * 86_400 + time)
}

/// Reads `2026-11-23T04:46:29.123Z` or with an offset such as `+01:00`; fractions are dropped.
pub(crate) fn parse_iso(text: &str) -> Option<i64> {
    let (date, clock) = text.split_once('T')?;
    let mut parts = date.splitn(3, '-');
    let mut part = || parts.next()?.parse::<i64>().ok();
    let days = days_from_date(part()?, part()?, part()?);
    let end = clock.find(['Z', '+', '-'])?;
    let time = parse_time(clock[..end].split('.').next()?)?;
    let offset = match &clock[end..] {
        "Z" => 0,
        zone => {
            let (hours, minutes) = zone[1..].split_once(':')?;
            let seconds = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
            if zone.starts_with('-') { -seconds } else { seconds }
        }
    };
    Some(days * 86_400 + time - offset)
}

fn parse_time(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, ':');
    let mut part = || parts.next()?.parse::<i64>().ok();
    Some(part()? * 3600 + part()? * 60 + part()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants_are_read_and_written() {
        // 1445412480 = 2015-10-21T07:28:00Z, an example of RFC 9110; 951782400 = 2000-02-29.
        assert_eq!(parse_http("Wed, 21 Oct 2015 07:28:00 GMT"), Some(1_445_412_480));
        assert_eq!(parse_iso("2015-10-21T07:28:00.000Z"), Some(1_445_412_480));
        assert_eq!(parse_iso("2015-10-21T09:28:00+02:00"), Some(1_445_412_480));
        assert_eq!(compact(1_445_412_480), "20151021T072800Z");
        assert_eq!(compact(951_782_400), "20000229T000000Z");
        assert_eq!(compact(0), "19700101T000000Z");
        assert_eq!(iso(1_445_412_480), "2015-10-21T07:28:00Z");
    }

    #[test]
    fn every_day_of_four_centuries_is_read_back() {
        for days in -1000..150_000 {
            let (year, month, day) = date_from_days(days);
            assert_eq!(days_from_date(year, month, day), days);
        }
    }

    #[test]
    fn nonsense_is_no_instant() {
        for text in ["", "yesterday", "2015-10-21", "2015-10-21T07:28", "Wed, 21 Foo 2015 07:28:00 GMT"] {
            assert_eq!((parse_iso(text), parse_http(text)), (None, None), "{text}");
        }
    }
}
