//! The one XML document of WebDAV that Haven reads: what PROPFIND answers (RFC 4918, 9.1 and 14.16).

use crate::{calendar, url::decode, xml};

/// What is asked for.
pub(super) const PROPFIND: &str = concat!(
    r#"<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop>"#,
    "<resourcetype/><getcontentlength/><getlastmodified/><getetag/></prop></propfind>"
);

/// A file or a collection.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Resource {
    /// Its path on the server, decoded, without a slash at its end.
    pub path: String,
    pub is_collection: bool,
    pub bytes: Option<u64>,
    pub etag: Option<String>,
    /// Seconds since the epoch.
    pub modified: Option<i64>,
}

impl Resource {
    /// The last segment of its path.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// A resource, and what stands in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub itself: Resource,
    pub members: Vec<Resource>,
}

/// Reads an answer; `None` if it is none.
///
/// The resource asked for is the one with the shortest path. It need not be the path that was asked for:
/// what stands between may have changed it.
pub(super) fn parse(body: &[u8]) -> Option<Found> {
    let mut resources: Vec<Resource> = Vec::new();
    let mut sensible = true;
    let root = xml::walk(body, "response", |path, text| match path {
        ["multistatus", "response"] => resources.push(Resource::default()),
        ["multistatus", "response", fields @ ..] => {
            let Some(resource) = resources.last_mut() else { return };
            let text = text.trim();
            match fields {
                ["href"] => match path_of(text) {
                    Some(path) => resource.path = path,
                    None => sensible = false,
                },
                ["propstat", "prop", "resourcetype", "collection"] => resource.is_collection = true,
                // What a resource does not have is told as an empty element, too.
                [.., _] if text.is_empty() => {}
                ["propstat", "prop", "getcontentlength"] => match text.parse() {
                    Ok(bytes) => resource.bytes = Some(bytes),
                    Err(_) => sensible = false,
                },
                // Apache calls an ETag weak (`W/`) for the second after the file was written.
                ["propstat", "prop", "getetag"] => {
                    resource.etag = Some(text.strip_prefix("W/").unwrap_or(text).to_owned());
                }
                ["propstat", "prop", "getlastmodified"] => resource.modified = calendar::parse_http(text),
                _ => {}
            }
        }
        _ => {}
    })?;
    if root != "multistatus" || !sensible {
        return None;
    }
    let at = (0..resources.len()).min_by_key(|at| resources[*at].path.len())?;
    let itself = resources.swap_remove(at);
    let below = |resource: &Resource| {
        let rest = resource.path.strip_prefix(&itself.path).and_then(|rest| rest.strip_prefix('/'));
        rest.is_some_and(|name| !name.is_empty() && !name.contains('/'))
    };
    resources.iter().all(below).then_some(Found { itself, members: resources })
}

/// The decoded path of a `href`, which may be a whole URL.
fn path_of(href: &str) -> Option<String> {
    let path = match href.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |slash| &rest[slash..]),
        None => href,
    };
    let decoded = decode(path)?;
    Some(decoded.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(path: &str, bytes: Option<u64>) -> Resource {
        Resource { path: path.into(), is_collection: bytes.is_none(), bytes, ..Resource::default() }
    }

    #[test]
    fn a_collection_is_read_with_its_members() {
        // In the manners of Apache (absolute paths, two propstats) and others (whole URLs, another prefix).
        let body = br#"<?xml version="1.0" encoding="utf-8"?>
<D:multistatus xmlns:D="DAV:" xmlns:ns0="DAV:">
<D:response><D:href>/dav/a%20b/x.1</D:href>
<D:propstat><D:prop><lp1:resourcetype/><lp1:getcontentlength>12</lp1:getcontentlength>
<lp1:getlastmodified>Wed, 21 Oct 2015 07:28:00 GMT</lp1:getlastmodified><lp1:getetag>"c-5"</lp1:getetag></D:prop>
<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>
<D:response><D:href>http://host:80/dav/a%20b/</D:href>
<D:propstat><D:prop><lp1:resourcetype><D:collection/></lp1:resourcetype></D:prop></D:propstat>
<D:propstat><D:prop><D:getcontentlength/><D:getetag></D:getetag></D:prop>
<D:status>HTTP/1.1 404 Not Found</D:status></D:propstat></D:response>
<D:response><D:href>/dav/a%20b/c/</D:href>
<D:propstat><D:prop><D:resourcetype><D:collection xmlns:D="DAV:"/></D:resourcetype></D:prop></D:propstat></D:response>
</D:multistatus>"#;
        let found = parse(body).expect("it is read");
        let file = Resource {
            etag: Some("\"c-5\"".into()),
            modified: Some(1_445_412_480),
            ..resource("/dav/a b/x.1", Some(12))
        };
        let mut members = found.members;
        members.sort_by(|a, b| a.path.cmp(&b.path));
        assert_eq!(found.itself, resource("/dav/a b", None));
        assert_eq!(members, [resource("/dav/a b/c", None), file]);
        assert_eq!(members[1].name(), "x.1");
    }

    #[test]
    fn what_is_no_answer_is_not_taken_for_one() {
        let response = |rest: &str| format!("<multistatus><response><href>/a/</href></response>{rest}</multistatus>");
        assert!(parse(response("").as_bytes()).is_some());
        for rest in [
            "<response><href>/b/c</href></response>",
            "<response><href>/a/b/c</href></response>",
            "<response><href>/a/%zz</href></response>",
            "<response><href>/a/b</href><propstat><prop><getcontentlength>x</getcontentlength></prop></propstat></response>",
            "<response>",
        ] {
            assert_eq!(parse(response(rest).as_bytes()), None, "{rest}");
        }
        for body in ["", "<html><body>Not found</body></html>", "<multistatus></multistatus>"] {
            assert_eq!(parse(body.as_bytes()), None, "{body}");
        }
    }
}
