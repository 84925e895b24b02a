//! Reading XML answers.

use quick_xml::{Reader, events::Event};

/// Visits the document: elements called `item` when they begin, without a text, and all others when
/// they end, with the text in them. Names come without their namespace.
/// Returns the name of the root element, or `None` if this is not one whole document.
pub(crate) fn walk(body: &[u8], item: &str, mut visit: impl FnMut(&[&str], String)) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let mut reader = Reader::from_str(text);
    // `<a/>` is `<a></a>`.
    reader.config_mut().expand_empty_elements = true;
    let mut path: Vec<String> = Vec::new();
    let mut content = String::new();
    let mut root = None;
    let mut visit_at = |path: &[String], text: String| {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        visit(&path, text);
    };
    loop {
        match reader.read_event().ok()? {
            Event::Start(tag) => {
                let name = String::from_utf8_lossy(tag.local_name().as_ref()).into_owned();
                root.get_or_insert_with(|| name.clone());
                let opens_item = name == item;
                path.push(name);
                content.clear();
                if opens_item {
                    visit_at(&path, String::new());
                }
            }
            Event::Text(text) => content.push_str(&text.decode().ok()?),
            Event::CData(text) => content.push_str(&text.decode().ok()?),
            Event::GeneralRef(reference) => {
                let named = match &*reference.decode().ok()? {
                    "amp" => '&',
                    "lt" => '<',
                    "gt" => '>',
                    "quot" => '"',
                    "apos" => '\'',
                    _ => reference.resolve_char_ref().ok()??,
                };
                content.push(named);
            }
            Event::End(_) => {
                if path.last().is_some_and(|name| name != item) {
                    visit_at(&path, std::mem::take(&mut content));
                }
                path.pop();
            }
            Event::Eof => break,
            _ => {}
        }
    }
    path.is_empty().then_some(root).flatten()
}
