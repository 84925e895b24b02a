//! The XMP document that goes with a photo: only what adds something to the file's own.
//!
//! There is no rating in it: no sidecar that Google writes has stars. A favourite is one, and no number of stars follows from it;
//! it goes as the upload's own field.

use std::fmt::Write as _;

use jiff::Zoned;

/// What is to be said of a photo.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Said<'a> {
    pub taken: Option<&'a Zoned>,
    /// Latitude, longitude (degrees), altitude (metres).
    pub place: Option<(f64, f64, Option<f64>)>,
    pub description: Option<&'a str>,
    /// Hierarchies with `/`: `People/Ada`.
    pub tags: &'a [String],
}

/// The document; none where there is nothing to say.
pub fn document(said: &Said<'_>) -> Option<String> {
    if *said == Said::default() {
        return None;
    }
    let mut inner = String::new();
    if let Some(taken) = said.taken {
        let date = taken.strftime("%Y-%m-%dT%H:%M:%S%:z");
        for tag in ["exif:DateTimeOriginal", "xmp:CreateDate", "photoshop:DateCreated"] {
            _ = writeln!(inner, "   <{tag}>{date}</{tag}>");
        }
    }
    if let Some((latitude, longitude, altitude)) = said.place {
        _ = writeln!(inner, "   <exif:GPSLatitude>{}</exif:GPSLatitude>", degrees(latitude, 'N', 'S'));
        _ = writeln!(inner, "   <exif:GPSLongitude>{}</exif:GPSLongitude>", degrees(longitude, 'E', 'W'));
        if let Some(metres) = altitude {
            let below = u8::from(metres < 0.0);
            let centimetres = (metres.abs() * 100.0).round();
            _ = writeln!(inner, "   <exif:GPSAltitudeRef>{below}</exif:GPSAltitudeRef>");
            _ = writeln!(inner, "   <exif:GPSAltitude>{centimetres}/100</exif:GPSAltitude>");
        }
    }
    if let Some(text) = said.description {
        let text = escaped(text);
        _ = writeln!(
            inner,
            "   <dc:description><rdf:Alt><rdf:li xml:lang=\"x-default\">{text}</rdf:li></rdf:Alt></dc:description>"
        );
    }
    if !said.tags.is_empty() {
        let items: String = said.tags.iter().map(|tag| format!("<rdf:li>{}</rdf:li>", escaped(tag))).collect();
        _ = writeln!(inner, "   <digiKam:TagsList><rdf:Seq>{items}</rdf:Seq></digiKam:TagsList>");
    }
    Some(format!(
        "<?xpacket begin=\"\u{feff}\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\n\
         <x:xmpmeta xmlns:x=\"adobe:ns:meta/\">\n \
         <rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\n  \
         <rdf:Description rdf:about=\"\"\n    \
         xmlns:exif=\"http://ns.adobe.com/exif/1.0/\"\n    \
         xmlns:xmp=\"http://ns.adobe.com/xap/1.0/\"\n    \
         xmlns:photoshop=\"http://ns.adobe.com/photoshop/1.0/\"\n    \
         xmlns:dc=\"http://purl.org/dc/elements/1.1/\"\n    \
         xmlns:digiKam=\"http://www.digikam.org/ns/1.0/\">\n\
         {inner}  </rdf:Description>\n </rdf:RDF>\n</x:xmpmeta>\n<?xpacket end=\"w\"?>\n"
    ))
}

/// `52,31.200000N`: degrees, and minutes with a fraction, as XMP writes coordinates.
fn degrees(value: f64, plus: char, minus: char) -> String {
    // A ten-millionth of a minute is a fifth of a millimetre.
    let units = (value.abs() * 60.0 * 1e7).round();
    let whole = (units / 6e8).floor();
    let minutes = (units - whole * 6e8) / 1e7;
    format!("{whole},{minutes:.7}{}", if value < 0.0 { minus } else { plus })
}

/// With the characters written out that XML keeps for itself, and without those it has no way to write.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\t' | '\n' => out.push(c),
            '\r' => out.push_str("&#13;"),
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => {}
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_say_is_no_document() {
        assert_eq!(document(&Said::default()), None);
    }

    #[test]
    fn only_what_was_said_is_in_it() {
        let tags = ["People/Ada & Bob".to_owned()];
        let text = document(&Said { description: Some("1 < 2\u{1}"), tags: &tags, ..Said::default() }).unwrap();
        assert!(text.contains("1 &lt; 2<") && text.contains("People/Ada &amp; Bob") && !text.contains("DateTime"));
    }

    #[test]
    fn coordinates_are_degrees_and_minutes() {
        assert_eq!(degrees(-33.5, 'N', 'S'), "33,30.0000000S");
        assert_eq!(degrees(52.999_999_999_99, 'N', 'S'), "53,0.0000000N");
    }
}
