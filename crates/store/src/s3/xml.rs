//! The XML documents of S3 that Haven reads: an error, a page of a listing, a copy's result, versions.

use crate::{calendar, xml::walk};

/// The element that an object of a listing is.
const OBJECT: &str = "Contents";

/// An S3 `<Error>`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct ErrorDocument {
    pub code: String,
    pub message: String,
    /// The region the server expects, where it tells.
    pub region: Option<String>,
}

/// A `<ListBucketResult>` of ListObjectsV2.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct ListDocument {
    pub objects: Vec<ListedObject>,
    pub truncated: bool,
    pub continuation: Option<String>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct ListedObject {
    pub key: String,
    pub bytes: u64,
    pub etag: Option<String>,
    pub modified: Option<i64>,
}

/// Reads an error; `None` if the document is none.
pub(super) fn parse_error(body: &[u8]) -> Option<ErrorDocument> {
    let mut error = ErrorDocument::default();
    let root = walk(body, OBJECT, |path, text| match path {
        ["Error", "Code"] => error.code = text,
        ["Error", "Message"] => error.message = text,
        ["Error", "Region"] => error.region = Some(text),
        _ => {}
    })?;
    (root == "Error" && !error.code.is_empty()).then_some(error)
}

/// Reads a page of a listing; `None` if the document is none.
pub(super) fn parse_list(body: &[u8]) -> Option<ListDocument> {
    let mut list = ListDocument::default();
    let mut sizes_are_numbers = true;
    let root = walk(body, OBJECT, |path, text| match path {
        // Opens an object; the fields that follow belong to it.
        ["ListBucketResult", "Contents"] => list.objects.push(ListedObject::default()),
        ["ListBucketResult", "Contents", field] => {
            let Some(object) = list.objects.last_mut() else {
                return;
            };
            match *field {
                "Key" => object.key = text,
                "Size" => match text.parse() {
                    Ok(bytes) => object.bytes = bytes,
                    Err(_) => sizes_are_numbers = false,
                },
                "ETag" => object.etag = Some(quoted(&text)),
                "LastModified" => object.modified = calendar::parse_iso(&text),
                _ => {}
            }
        }
        ["ListBucketResult", "IsTruncated"] => list.truncated = text == "true",
        ["ListBucketResult", "NextContinuationToken"] => list.continuation = Some(text).filter(|t| !t.is_empty()),
        _ => {}
    })?;
    let whole = root == "ListBucketResult" && sizes_are_numbers;
    whole.then_some(list)
}

/// A version of an object, or the mark that it was deleted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct ListedVersion {
    pub key: String,
    pub id: String,
}

/// Reads a page of ListObjectVersions; `None` if the document is none.
pub(super) fn parse_versions(body: &[u8]) -> Option<Vec<ListedVersion>> {
    let mut versions = Vec::new();
    let mut current = ListedVersion::default();
    let root = walk(body, OBJECT, |path, text| match path {
        ["ListVersionsResult", "Version" | "DeleteMarker", "Key"] => current.key = text,
        ["ListVersionsResult", "Version" | "DeleteMarker", "VersionId"] => current.id = text,
        // It ends.
        ["ListVersionsResult", "Version" | "DeleteMarker"] => versions.push(std::mem::take(&mut current)),
        _ => {}
    })?;
    (root == "ListVersionsResult").then_some(versions)
}

/// Whether a copy, which may fail with status 200, succeeded.
pub(super) fn is_copy_result(body: &[u8]) -> bool {
    walk(body, OBJECT, |_, _| {}).is_some_and(|root| root == "CopyObjectResult")
}

/// An ETag in quotes, as headers have it and some listings do not.
pub(super) fn quoted(etag: &str) -> String {
    format!("\"{}\"", etag.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_read_with_its_escapes() {
        let page = br#"<?xml version="1.0" encoding="UTF-8"?>
            <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>
            <IsTruncated>true</IsTruncated><NextContinuationToken>t&amp;1=</NextContinuationToken>
            <Contents><Key>a&amp;b</Key><LastModified>2015-10-21T07:28:00.000Z</LastModified>
              <ETag>&quot;e1&quot;</ETag><Size>7</Size><Owner><ID>x</ID></Owner></Contents>
            <Contents><Key>c&#x41;</Key><ETag>e2</ETag><Size>0</Size></Contents>
            </ListBucketResult>"#;
        let list = parse_list(page).expect("a listing");
        assert!(list.truncated);
        assert_eq!(list.continuation.as_deref(), Some("t&1="));
        let first =
            ListedObject { key: "a&b".into(), bytes: 7, etag: Some("\"e1\"".into()), modified: Some(1_445_412_480) };
        let second = ListedObject { key: "cA".into(), bytes: 0, etag: Some("\"e2\"".into()), modified: None };
        assert_eq!(list.objects, [first, second]);
    }

    #[test]
    fn versions_and_marks_of_deletion_are_read() {
        let body = b"<ListVersionsResult><Name>b</Name><Version><Key>a</Key><VersionId>2</VersionId><Size>1</Size></Version>\
            <DeleteMarker><Owner><ID>x</ID></Owner><VersionId>3</VersionId><Key>c</Key></DeleteMarker></ListVersionsResult>";
        let version = |key: &str, id: &str| ListedVersion { key: key.into(), id: id.into() };
        assert_eq!(parse_versions(body), Some(vec![version("a", "2"), version("c", "3")]));
        assert_eq!(parse_versions(b"<ListBucketResult></ListBucketResult>"), None);
    }

    #[test]
    fn an_error_is_read_with_its_region() {
        let body = b"<Error><Code>NoSuchKey</Code><Message>gone</Message><Region>garage</Region></Error>";
        let error = parse_error(body).expect("an error");
        assert_eq!((error.code.as_str(), error.message.as_str()), ("NoSuchKey", "gone"));
        assert_eq!(error.region.as_deref(), Some("garage"));
    }

    #[test]
    fn what_is_cut_short_or_no_s3_is_not_taken_for_an_answer() {
        for body in [&b""[..], b"<html><body>Not found</body></html>", b"<ListBucketResult><Contents>", b"\xff\xfe"] {
            assert_eq!(parse_list(body), None);
            assert_eq!(parse_error(body), None);
        }
        assert!(parse_list(b"<ListBucketResult><Contents><Size>x</Size></Contents></ListBucketResult>").is_none());
        assert!(!is_copy_result(b"<Error><Code>InternalError</Code></Error>"));
        assert!(is_copy_result(b"<CopyObjectResult><ETag>x</ETag></CopyObjectResult>"));
    }
}
