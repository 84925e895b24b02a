//! One file and what is known about it, in one request.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream::BoxStream};
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use jiff::Timestamp;
use rand::Rng;
use serde::Deserialize;
use tokio::io::{AsyncRead, ReadBuf};

use crate::{Error, Id, Immich, Sha1, Visibility, call, error::Space, send::Progress};

/// Longer pieces of the caller are cut, so that a stall is noticed within one.
const PIECE_BYTES_MAX: usize = 256 << 10;
/// Less than this and the next file does not fit either.
const DISK_BYTES_MIN: u64 = 64 << 20;

/// How long a proxy may take to refuse a request by its head.
const PROBE_WAIT: Duration = Duration::from_millis(700);

/// What is said about a file beside its bytes.
#[derive(Debug, Clone)]
pub struct Upload {
    /// With the extension by which the server takes it for a picture or a video.
    pub file_name: String,
    /// Where neither the file nor the sidecar tells a time, it stands in the timeline at this one.
    pub created_at: Timestamp,
    pub modified_at: Timestamp,
    pub favourite: bool,
    pub visibility: Visibility,
    /// The moving half, which was uploaded before.
    pub live_video: Option<Id>,
    /// XMP: its date, place, description, rating and tags go before the file's.
    pub sidecar: Option<Bytes>,
    /// Milliseconds; told to servers that take it.
    pub duration_ms: Option<u64>,
    /// Where it is known: a server that has the file answers before it was sent.
    pub checksum: Option<Sha1>,
    /// What up to v2 wants as the file's name on its device; later servers are not told.
    pub device_asset_id: String,
    /// The same for the device.
    pub device_id: String,
}

/// The bytes of a file, read when they are sent.
pub struct Content {
    length: u64,
    pieces: BoxStream<'static, io::Result<Bytes>>,
}

impl Content {
    /// `pieces` must give exactly `length` bytes.
    pub fn new(length: u64, pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self { length, pieces: pieces.boxed() }
    }

    /// From bytes at hand.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::new(bytes.len() as u64, futures::stream::iter([Ok(bytes)]))
    }

    /// From a reader that gives exactly `length` bytes.
    pub fn reader(length: u64, reader: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let pieces = futures::stream::unfold(Some(reader), |reader| async move {
            let mut reader = reader?;
            let mut buffer = vec![0; PIECE_BYTES_MAX];
            let mut filled = ReadBuf::new(&mut buffer);
            let read =
                std::future::poll_fn(|cx| Pin::new(&mut reader).poll_read(cx, &mut filled).map_ok(|()| ())).await;
            let count = filled.filled().len();
            match read {
                Ok(()) if count == 0 => None,
                Ok(()) => {
                    buffer.truncate(count);
                    Some((Ok(Bytes::from(buffer)), Some(reader)))
                }
                Err(error) => Some((Err(error), None)),
            }
        });
        Self::new(length, pieces)
    }
}

/// What the server made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    pub id: Id,
    pub verdict: Verdict,
    /// Was every byte sent? A duplicate may be known before.
    pub sent_whole: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Created,
    /// The user had this content already, maybe in the trash. Nothing that was said about it was taken over.
    Duplicate,
}

#[derive(Deserialize)]
struct Said {
    id: Id,
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Created,
    Duplicate,
    /// Up to v1 only, for `PUT /assets/{id}/original`.
    Replaced,
}

impl Immich {
    /// Uploads a file. The server sums what it gets and does not compare with `checksum`: whoever wants to know that it
    /// has the right bytes asks for their SHA-1 afterwards ([`Immich::bulk_check`]).
    pub async fn upload(&self, upload: Upload, content: Content) -> Result<Uploaded, Error> {
        let progress = Progress::new();
        let boundary = format!("haven-{:032x}", rand::rng().random::<u128>());
        let head = self.head(&upload, &boundary);
        let tail = format!("\r\n--{boundary}--\r\n");
        let length = content.length;
        let total = head.len() as u64 + length + tail.len() as u64;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.wire.path("/assets"))
            .header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={boundary}"))
            .header(header::CONTENT_LENGTH, total);
        if let Some(sum) = &upload.checksum {
            request = request.header("x-immich-checksum", sum.hex());
        }
        let body = Form {
            ahead: Some(Bytes::from(head)),
            left: length,
            pieces: content.pieces,
            piece: Bytes::new(),
            tail: Some(Bytes::from(tail)),
            total,
            progress: progress.clone(),
        };
        let answer = self.wire.exchange(call::UPLOAD, request, body.boxed_unsync(), &progress).await?;
        if answer.status == StatusCode::INTERNAL_SERVER_ERROR {
            self.room_for(length).await?;
        }
        self.serving(answer.status).await?;
        let said: Said = answer.read(call::UPLOAD, self.wire.connector.address(), total)?;
        let verdict = match said.status {
            Status::Created => Verdict::Created,
            Status::Duplicate | Status::Replaced => Verdict::Duplicate,
        };
        Ok(Uploaded { id: said.id, verdict, sent_whole: progress.is_done() })
    }

    /// Does whatever stands before the server take requests of that length? Only the head of an upload is sent: a proxy refuses
    /// by that, and a server that waits for the rest is left waiting. Of one that answers late it is believed that it does.
    pub async fn lets_through(&self, bytes: u64) -> Result<bool, Error> {
        let progress = Progress::new();
        let boundary = format!("haven-{:032x}", rand::rng().random::<u128>());
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.wire.path("/assets"))
            .header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={boundary}"))
            .header(header::CONTENT_LENGTH, bytes);
        let body = Form {
            ahead: None,
            left: bytes,
            pieces: futures::stream::pending().boxed(),
            piece: Bytes::new(),
            tail: Some(Bytes::new()),
            total: bytes,
            progress: progress.clone(),
        };
        let exchange = self.wire.exchange(call::UPLOAD, request, body.boxed_unsync(), &progress);
        match tokio::time::timeout(PROBE_WAIT, exchange).await {
            Ok(Ok(answer)) => Ok(answer.status != StatusCode::PAYLOAD_TOO_LARGE),
            // Some close the connection without a word, for other reasons too: it is not called a limit.
            Ok(Err(Error::Passing { .. })) | Err(_) => Ok(true),
            Ok(Err(error)) => Err(error),
        }
    }

    /// A full disk is an "internal server error" to Immich; how much room there is says which one it was.
    async fn room_for(&self, bytes: u64) -> Result<(), Error> {
        match self.storage().await {
            Ok(storage) if storage.available_bytes < bytes.saturating_add(DISK_BYTES_MIN) => {
                Err(Error::Full { space: Space::Disk { available: Some(storage.available_bytes) } })
            }
            _ => Ok(()),
        }
    }

    /// All that stands before the file's bytes.
    fn head(&self, upload: &Upload, boundary: &str) -> Vec<u8> {
        let mut head = Vec::with_capacity(1024 + upload.sidecar.as_ref().map_or(0, Bytes::len));
        let mut field = |name: &str, value: &str| {
            head.extend_from_slice(
                format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
                    .as_bytes(),
            );
        };
        if self.version().wants_device_ids() {
            field("deviceAssetId", &upload.device_asset_id);
            field("deviceId", &upload.device_id);
        }
        field("fileCreatedAt", &iso(upload.created_at));
        field("fileModifiedAt", &iso(upload.modified_at));
        field("filename", &upload.file_name);
        if upload.favourite {
            field("isFavorite", "true");
        }
        if upload.visibility != Visibility::Timeline {
            field("visibility", upload.visibility.word());
        }
        if let Some(video) = &upload.live_video {
            field("livePhotoVideoId", video.as_str());
        }
        if let Some(length) = upload.duration_ms.filter(|_| self.version().takes_duration()) {
            field("duration", &length.to_string());
        }
        if let Some(sidecar) = &upload.sidecar {
            let name = format!("{}.xmp", upload.file_name);
            head.extend_from_slice(&part_head(boundary, "sidecarData", &name, "application/xml"));
            head.extend_from_slice(sidecar);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(&part_head(boundary, "assetData", &upload.file_name, "application/octet-stream"));
        head
    }
}

/// ISO 8601 in UTC with milliseconds, within the years the server's pattern knows.
fn iso(time: Timestamp) -> String {
    let text = format!("{time:.3}");
    match text.starts_with(|c: char| c.is_ascii_digit()) {
        true => text,
        false => "0001-01-01T00:00:00.000Z".into(),
    }
}

/// What stands before the bytes of a part that is a file.
fn part_head(boundary: &str, field: &str, name: &str, kind: &str) -> Vec<u8> {
    let name = part_name(name);
    format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{name}\"\r\n\
         Content-Type: {kind}\r\n\r\n"
    )
    .into_bytes()
}

/// A file's name as browsers write it into a part's head.
fn part_name(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

/// The body of an upload.
struct Form {
    ahead: Option<Bytes>,
    pieces: BoxStream<'static, io::Result<Bytes>>,
    piece: Bytes,
    /// Bytes of the file that are still to come.
    left: u64,
    tail: Option<Bytes>,
    /// Of all that was not handed over yet.
    total: u64,
    progress: Progress,
}

impl Form {
    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        while self.piece.is_empty() {
            let polled = self.pieces.poll_next_unpin(cx);
            self.progress.at_source(polled.is_pending());
            match polled {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(piece))) if piece.len() as u64 > self.left => {
                    return Poll::Ready(Err(io::Error::other("the file is longer than it was said to be")));
                }
                Poll::Ready(Some(Ok(piece))) => self.piece = piece,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => {
                    let words = format!("the file ends {} bytes too early", self.left);
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, words)));
                }
            }
        }
        let piece = self.piece.split_to(self.piece.len().min(PIECE_BYTES_MAX));
        self.left -= piece.len() as u64;
        Poll::Ready(Ok(piece))
    }

    /// The caller's stream ends, too: what checks a sum at its end must get there before the server gets the last byte.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let polled = self.pieces.poll_next_unpin(cx);
            self.progress.at_source(polled.is_pending());
            match polled {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Ready(Some(Ok(piece))) if piece.is_empty() => {}
                Poll::Ready(Some(Ok(_))) => {
                    return Poll::Ready(Err(io::Error::other("the file is longer than it was said to be")));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl hyper::body::Body for Form {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        let next = if let Some(head) = this.ahead.take() {
            Ok(head)
        } else if this.left > 0 {
            match this.poll_content(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(next) => next,
            }
        } else if this.tail.is_some() {
            match this.poll_end(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => Ok(this.tail.take().unwrap_or_default()),
                Poll::Ready(Err(error)) => Err(error),
            }
        } else {
            return Poll::Ready(None);
        };
        match next {
            Ok(bytes) => {
                this.total -= bytes.len() as u64;
                if this.tail.is_none() {
                    this.progress.finish();
                } else {
                    this.progress.moved();
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Err(error) => {
                let kind = error.kind();
                this.progress.fail(error);
                Poll::Ready(Some(Err(io::Error::from(kind))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.total == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_break_no_part() {
        assert_eq!(part_name("a\"b\r\nc.jpg"), "a%22b%0D%0Ac.jpg");
        assert_eq!(part_name("Übung 東京.jpg"), "Übung 東京.jpg");
    }

    #[test]
    fn times_have_the_form_the_server_wants() {
        let at = |seconds| iso(Timestamp::from_second(seconds).expect("a time"));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(-2_000_000_000), "1906-08-16T20:26:40.000Z");
    }
}
