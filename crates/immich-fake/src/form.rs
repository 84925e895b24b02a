//! The body of an upload, taken apart as it arrives.

use std::io;

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http_body_util::{BodyExt, BodyStream};
use hyper::body::Incoming;

/// What came.
#[derive(Debug, Default)]
pub(crate) struct Form {
    /// In their order; files as the text `file`.
    pub fields: Vec<(String, String)>,
    /// Of the part `assetData`.
    pub part_name: String,
    pub sidecar: Option<String>,
    /// Hex; empty where nothing was summed.
    pub sha1: String,
    pub size: u64,
    /// Where they are to be kept.
    pub bytes: Vec<u8>,
}

impl Form {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// The pieces of a body; `arrived` is told the length of each.
fn pieces(body: Incoming, arrived: impl Fn(u64)) -> impl Stream<Item = io::Result<Bytes>> {
    BodyStream::new(body).map(move |frame| {
        let data = frame.map_err(io::Error::other)?.into_data().unwrap_or_default();
        arrived(data.len() as u64);
        Ok(data)
    })
}

/// Reads all of it. An error where the connection ends before, or it is no form.
pub(crate) async fn read(
    body: Incoming,
    kind: &str,
    stall_after: Option<u64>,
    keep: bool,
    arrived: impl Fn(u64) + Send + 'static,
) -> io::Result<Form> {
    let boundary = multer::parse_boundary(kind).map_err(io::Error::other)?;
    let mut parts = multer::Multipart::new(pieces(body, arrived), boundary);
    let mut form = Form::default();
    while let Some(mut part) = parts.next_field().await.map_err(io::Error::other)? {
        let name = part.name().unwrap_or_default().to_owned();
        match (name.as_str(), part.file_name().map(str::to_owned)) {
            ("assetData", Some(file)) => {
                let mut sum = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
                while let Some(piece) = part.chunk().await.map_err(io::Error::other)? {
                    sum.update(&piece);
                    form.size += piece.len() as u64;
                    if keep {
                        form.bytes.extend_from_slice(&piece);
                    }
                    if stall_after.is_some_and(|after| form.size >= after) {
                        std::future::pending::<()>().await;
                    }
                }
                form.sha1 = data_encoding::HEXLOWER.encode(sum.finish().as_ref());
                form.part_name = file;
                form.fields.push((name, "file".into()));
            }
            ("sidecarData", Some(_)) => {
                form.sidecar = Some(part.text().await.map_err(io::Error::other)?);
                form.fields.push((name, "file".into()));
            }
            (_, Some(_)) => form.fields.push((name, "file".into())),
            (_, None) => {
                let text = part.text().await.map_err(io::Error::other)?;
                form.fields.push((name, text));
            }
        }
    }
    Ok(form)
}

/// The same, where `assetData` is the last part, and no end looked for in it. Its bytes are summed where the client did not
/// say their sum (`told`, hex): whoever measures a client measures no server.
pub(crate) async fn skim(
    mut body: Incoming,
    kind: &str,
    length: u64,
    told: Option<String>,
    arrived: impl Fn(u64),
) -> io::Result<Form> {
    let boundary = multer::parse_boundary(kind).map_err(io::Error::other)?;
    let tail = boundary.len() as u64 + 8;
    let mut head = BytesMut::new();
    let mut form = Form::default();
    let start = loop {
        let Some(piece) = next(&mut body, &arrived).await? else {
            return Err(io::Error::other("no assetData"));
        };
        head.extend_from_slice(&piece);
        let text = head.as_ref();
        if let Some(at) = find(text, b"name=\"assetData\"")
            && let Some(end) = find(&text[at..], b"\r\n\r\n")
        {
            break at + end + 4;
        }
    };
    form.size = length.saturating_sub(start as u64 + tail);
    let whole = Bytes::from(head.split_to(start).freeze().to_vec());
    let ended = [whole.as_ref(), format!("\r\n--{boundary}--\r\n").as_bytes()].concat();
    let mut parts = multer::Multipart::new(futures::stream::iter([io::Result::Ok(Bytes::from(ended))]), boundary);
    while let Some(part) = parts.next_field().await.map_err(io::Error::other)? {
        let (name, file) = (part.name().unwrap_or_default().to_owned(), part.file_name().map(str::to_owned));
        let text = part.text().await.map_err(io::Error::other)?;
        match (name.as_str(), file) {
            ("assetData", Some(file)) => form.part_name = file,
            ("sidecarData", _) => form.sidecar = Some(text),
            _ => form.fields.push((name, text)),
        }
    }
    let mut sum = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    let mut left = form.size;
    let mut piece = head.freeze();
    loop {
        let own = piece.len().min(left as usize);
        if told.is_none() {
            sum.update(&piece[..own]);
        }
        left -= own as u64;
        match next(&mut body, &arrived).await? {
            Some(more) => piece = more,
            None => break,
        }
    }
    if left > 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
    }
    form.sha1 = told.unwrap_or_else(|| data_encoding::HEXLOWER.encode(sum.finish().as_ref()));
    Ok(form)
}

async fn next(body: &mut Incoming, arrived: &impl Fn(u64)) -> io::Result<Option<Bytes>> {
    let Some(frame) = body.frame().await else { return Ok(None) };
    let data = frame.map_err(io::Error::other)?.into_data().unwrap_or_default();
    arrived(data.len() as u64);
    Ok(Some(data))
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}
