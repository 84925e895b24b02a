//! SFTP version 3 as bytes: draft-ietf-secsh-filexfer-02, and the extensions in OpenSSH's PROTOCOL file.
//!
//! A codec of our own: the crate that goes with the SSH library keeps handles as text, and so breaks
//! every handle that is not UTF-8, which OpenSSH's are from the 128th open file on.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// No packet is longer, whichever way: what OpenSSH's server allows.
pub(super) const PACKET_BYTES_MAX: u32 = 256 << 10;

const VERSION: u32 = 3;
const INIT: u8 = 1;
const EXTENDED: u8 = 200;

/// Flags of [`open`].
pub(super) const READ: u32 = 0x01;
pub(super) const WRITE_NEW: u32 = 0x02 | 0x08 | 0x20;

/// The extensions that are used where the server names them.
pub(super) const FSYNC: &str = "fsync@openssh.com";
pub(super) const POSIX_RENAME: &str = "posix-rename@openssh.com";
pub(super) const HARDLINK: &str = "hardlink@openssh.com";
pub(super) const STATVFS: &str = "statvfs@openssh.com";
pub(super) const LIMITS: &str = "limits@openssh.com";
pub(super) const COPY_DATA: &str = "copy-data";

/// What a status says. Version 3 has no others; all else is `FAILURE`.
pub(super) mod code {
    pub(crate) const OK: u32 = 0;
    pub(crate) const EOF: u32 = 1;
    pub(crate) const NO_SUCH_FILE: u32 = 2;
    pub(crate) const PERMISSION_DENIED: u32 = 3;
    pub(crate) const FAILURE: u32 = 4;
    pub(crate) const BAD_MESSAGE: u32 = 5;
    pub(crate) const UNSUPPORTED: u32 = 8;
}

/// A request without its number.
#[derive(Debug)]
pub(super) struct Request {
    kind: u8,
    fields: BytesMut,
    /// What is to be written, at the packet's end.
    data: Bytes,
}

impl Request {
    fn new(kind: u8) -> Self {
        Self { kind, fields: BytesMut::with_capacity(128), data: Bytes::new() }
    }

    fn extended(name: &str) -> Self {
        Self::new(EXTENDED).text(name.as_bytes())
    }

    fn text(mut self, text: &[u8]) -> Self {
        // Names have at most 200 bytes and roots some hundred more.
        self.fields.put_u32(text.len() as u32);
        self.fields.put_slice(text);
        self
    }

    fn u32(mut self, number: u32) -> Self {
        self.fields.put_u32(number);
        self
    }

    fn u64(mut self, number: u64) -> Self {
        self.fields.put_u64(number);
        self
    }

    /// The packet as it goes out, under the number `id`.
    pub(super) fn frame(&self, id: u32) -> Bytes {
        let length = 1 + 4 + self.fields.len() + self.data.len();
        let mut frame = BytesMut::with_capacity(4 + length);
        frame.put_u32(length as u32);
        frame.put_u8(self.kind);
        frame.put_u32(id);
        frame.put_slice(&self.fields);
        frame.put_slice(&self.data);
        frame.freeze()
    }
}

/// The first packet of all; it has no number.
pub(super) fn init() -> Bytes {
    let mut frame = BytesMut::with_capacity(9);
    frame.put_u32(5);
    frame.put_u8(INIT);
    frame.put_u32(VERSION);
    frame.freeze()
}

pub(super) fn open(path: &str, flags: u32) -> Request {
    // No attributes: the server's umask decides.
    Request::new(3).text(path.as_bytes()).u32(flags).u32(0)
}

pub(super) fn close(handle: &[u8]) -> Request {
    Request::new(4).text(handle)
}

pub(super) fn read(handle: &[u8], offset: u64, length: u32) -> Request {
    Request::new(5).text(handle).u64(offset).u32(length)
}

pub(super) fn write(handle: &[u8], offset: u64, data: Bytes) -> Request {
    let mut request = Request::new(6).text(handle).u64(offset).u32(data.len() as u32);
    request.data = data;
    request
}

pub(super) fn lstat(path: &str) -> Request {
    Request::new(7).text(path.as_bytes())
}

pub(super) fn fstat(handle: &[u8]) -> Request {
    Request::new(8).text(handle)
}

pub(super) fn open_folder(path: &str) -> Request {
    Request::new(11).text(path.as_bytes())
}

pub(super) fn read_folder(handle: &[u8]) -> Request {
    Request::new(12).text(handle)
}

pub(super) fn remove(path: &str) -> Request {
    Request::new(13).text(path.as_bytes())
}

pub(super) fn make_folder(path: &str) -> Request {
    Request::new(14).text(path.as_bytes()).u32(0)
}

pub(super) fn stat(path: &str) -> Request {
    Request::new(17).text(path.as_bytes())
}

/// Refuses to replace, as version 3 demands.
pub(super) fn rename(from: &str, to: &str) -> Request {
    Request::new(18).text(from.as_bytes()).text(to.as_bytes())
}

pub(super) fn posix_rename(from: &str, to: &str) -> Request {
    Request::extended(POSIX_RENAME).text(from.as_bytes()).text(to.as_bytes())
}

pub(super) fn hardlink(from: &str, to: &str) -> Request {
    Request::extended(HARDLINK).text(from.as_bytes()).text(to.as_bytes())
}

pub(super) fn fsync(handle: &[u8]) -> Request {
    Request::extended(FSYNC).text(handle)
}

pub(super) fn statvfs(path: &str) -> Request {
    Request::extended(STATVFS).text(path.as_bytes())
}

pub(super) fn limits() -> Request {
    Request::extended(LIMITS)
}

/// All of `from`, to the beginning of `to`.
pub(super) fn copy_data(from: &[u8], to: &[u8]) -> Request {
    Request::extended(COPY_DATA).text(from).u64(0).u64(0).text(to).u64(0)
}

/// An answer.
#[derive(Debug)]
pub(super) enum Reply {
    Status { code: u32, message: String },
    Handle(Bytes),
    Data(Bytes),
    Names(Vec<Name>),
    Attributes(Attributes),
    Extended(Bytes),
}

/// An entry of a folder; `None` is a name that is no text.
#[derive(Debug)]
pub(super) struct Name {
    pub name: Option<String>,
    pub attributes: Attributes,
}

/// What is known of a file. Servers may leave out any of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub bytes: Option<u64>,
    pub mode: Option<u32>,
    /// Seconds since the epoch.
    pub modified: Option<u32>,
}

/// What a mode says of the kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Other,
    Untold,
}

impl Attributes {
    pub(super) fn kind(&self) -> Kind {
        match self.mode.map(|mode| mode & 0o170_000) {
            Some(0o100_000) => Kind::File,
            Some(0o040_000) => Kind::Folder,
            None | Some(0) => Kind::Untold,
            Some(_) => Kind::Other,
        }
    }
}

/// The server's greeting: its version, and the names of its extensions.
pub(super) fn parse_version(mut packet: Bytes) -> Option<(u32, Vec<String>)> {
    if packet.try_get_u8().ok()? != 2 {
        return None;
    }
    let version = packet.try_get_u32().ok()?;
    let mut extensions = Vec::new();
    while packet.has_remaining() {
        let name = text(&mut packet)?;
        text(&mut packet)?;
        extensions.push(String::from_utf8_lossy(&name).into_owned());
    }
    Some((version, extensions))
}

impl Reply {
    /// Reads a packet (without its length); `None` if it is none of these.
    pub(super) fn parse(mut packet: Bytes) -> Option<(u32, Self)> {
        let kind = packet.try_get_u8().ok()?;
        let id = packet.try_get_u32().ok()?;
        let reply = match kind {
            101 => {
                let code = packet.try_get_u32().ok()?;
                // Some servers leave the words out.
                let message = text(&mut packet).unwrap_or_default();
                Self::Status { code, message: String::from_utf8_lossy(&message).into_owned() }
            }
            102 => Self::Handle(text(&mut packet)?),
            103 => Self::Data(text(&mut packet)?),
            104 => {
                let count = packet.try_get_u32().ok()?;
                let mut names = Vec::new();
                for _ in 0..count {
                    let name = String::from_utf8(text(&mut packet)?.into()).ok();
                    text(&mut packet)?;
                    names.push(Name { name, attributes: attributes(&mut packet)? });
                }
                Self::Names(names)
            }
            105 => Self::Attributes(attributes(&mut packet)?),
            201 => Self::Extended(packet),
            _ => return None,
        };
        Some((id, reply))
    }
}

fn text(packet: &mut Bytes) -> Option<Bytes> {
    let length = packet.try_get_u32().ok()? as usize;
    (packet.remaining() >= length).then(|| packet.split_to(length))
}

fn attributes(packet: &mut Bytes) -> Option<Attributes> {
    let mut found = Attributes::default();
    let flags = packet.try_get_u32().ok()?;
    if flags & 1 != 0 {
        found.bytes = Some(packet.try_get_u64().ok()?);
    }
    if flags & 2 != 0 {
        packet.try_get_u64().ok()?;
    }
    if flags & 4 != 0 {
        found.mode = Some(packet.try_get_u32().ok()?);
    }
    if flags & 8 != 0 {
        packet.try_get_u32().ok()?;
        found.modified = Some(packet.try_get_u32().ok()?);
    }
    if flags & 0x8000_0000 != 0 {
        for _ in 0..2 * u64::from(packet.try_get_u32().ok()?) {
            text(packet)?;
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_framed_with_its_number_and_data() {
        let frame = write(b"\x00\x80", 5, Bytes::from_static(b"abc")).frame(7);
        let expected = b"\x00\x00\x00\x1a\x06\x00\x00\x00\x07\x00\x00\x00\x02\x00\x80\
            \x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x03abc";
        assert_eq!(frame[..], expected[..]);
    }

    #[test]
    fn a_handle_need_not_be_text() {
        let packet = Bytes::from_static(b"\x66\x00\x00\x00\x09\x00\x00\x00\x02\xff\x80");
        let Some((9, Reply::Handle(handle))) = Reply::parse(packet) else { panic!("not read") };
        assert_eq!(handle[..], b"\xff\x80"[..]);
    }

    #[test]
    fn attributes_are_read_whatever_is_left_out() {
        let mut packet = BytesMut::new();
        packet.put_u8(105);
        packet.put_u32(1);
        packet.put_u32(1 | 2 | 4 | 8 | 0x8000_0000);
        packet.put_u64(10);
        packet.put_u64(0);
        packet.put_u32(0o100_644);
        packet.put_u32(0);
        packet.put_u32(99);
        packet.put_u32(1);
        for text in ["name", "value"] {
            packet.put_u32(text.len() as u32);
            packet.put_slice(text.as_bytes());
        }
        let whole = packet.freeze();
        let Some((1, Reply::Attributes(found))) = Reply::parse(whole.clone()) else { panic!("not read") };
        assert_eq!(found, Attributes { bytes: Some(10), mode: Some(0o100_644), modified: Some(99) });
        assert_eq!(found.kind(), Kind::File);
        let bare = Bytes::from_static(b"\x69\x00\x00\x00\x01\x00\x00\x00\x00");
        let Some((_, Reply::Attributes(found))) = Reply::parse(bare) else { panic!("not read") };
        assert_eq!((found, found.kind()), (Attributes::default(), Kind::Untold));
        for cut in 0..whole.len() {
            assert!(Reply::parse(whole.slice(..cut)).is_none(), "cut at {cut}");
        }
    }

    #[test]
    fn the_greeting_names_the_extensions() {
        let packet = b"\x02\x00\x00\x00\x03\x00\x00\x00\x09copy-data\x00\x00\x00\x011";
        let (version, extensions) = parse_version(Bytes::from_static(packet)).expect("a greeting");
        assert_eq!((version, extensions), (3, vec![COPY_DATA.to_owned()]));
        assert!(parse_version(Bytes::from_static(b"\x02\x00\x00\x00\x03\x00\x00\x00\x09copy")).is_none());
    }
}
