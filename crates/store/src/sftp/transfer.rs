//! Whole files to and from a server, many packets in flight.

use std::{collections::VecDeque, ops::Range};

use bytes::Bytes;

use super::{
    session::{Awaited, Failure, Session},
    wire::{self, Kind, code},
};

/// How much of one file is on its way at once.
const IN_FLIGHT_BYTES: u64 = 2 << 20;
/// How much is asked for before the length is known.
const BLIND_BYTES: u64 = 512 << 10;

/// Packets of `packet` bytes in flight for one file.
fn window(packet: u32) -> usize {
    (IN_FLIGHT_BYTES / u64::from(packet)).clamp(1, 64) as usize
}

/// Writes `body` to the new file `handle`, sees that it is on the server's disk where that can be
/// asked for, and closes it: all in one round trip and what the body takes. The handle is taken when
/// its closing is on the way; whoever drops this before that has it still.
pub(super) async fn write(session: &Session, open: &mut Option<Bytes>, body: &Bytes) -> Result<(), Failure> {
    let Some(handle) = open.clone() else { return Err(Failure::Garbled("the file is closed")) };
    let packet = session.write_bytes as usize;
    let window = window(session.write_bytes);
    let mut acknowledged = Ok(());
    let mut under_way: VecDeque<Awaited> = VecDeque::new();
    for start in (0..body.len()).step_by(packet) {
        if under_way.len() == window
            && let Some(oldest) = under_way.pop_front()
        {
            acknowledged = oldest.done().await;
            if acknowledged.is_err() {
                break;
            }
        }
        let part = body.slice(start..body.len().min(start + packet));
        under_way.push_back(session.send(wire::write(&handle, start as u64, part)));
    }
    // Requests for one file are worked off in their order, so these need not wait for the writes.
    let synced = session.knows(wire::FSYNC).then(|| session.send(wire::fsync(&handle)));
    *open = None;
    let closed = session.send(wire::close(&handle));
    acknowledged?;
    for write in under_way {
        write.done().await?;
    }
    if let Some(synced) = synced {
        synced.done().await?;
    }
    closed.done().await
}

/// The bytes `range` of the open file `handle`, as far as there are any; `None` if it is no file.
pub(super) async fn read(session: &Session, handle: &[u8], range: Range<u64>) -> Result<Option<Bytes>, Failure> {
    let mut reader = Reader { session, handle, end: range.end, asked: range.start, under_way: VecDeque::new() };
    // The length comes back with the first packets.
    let attributes = session.send(wire::fstat(handle));
    reader.ask_until(range.start.saturating_add(BLIND_BYTES));
    let attributes = attributes.attributes().await?;
    if matches!(attributes.kind(), Kind::Folder | Kind::Other) {
        return Ok(None);
    }
    let length = attributes.bytes.ok_or(Failure::Garbled("no length was told"))?;
    reader.end = range.end.min(length);
    let wanted = reader.end.saturating_sub(range.start);
    let mut body = Vec::with_capacity(usize::try_from(wanted).map_err(|_| Failure::Garbled("too long"))?);
    while (body.len() as u64) < wanted {
        reader.ask_until(u64::MAX);
        let at = range.start + body.len() as u64;
        body.extend_from_slice(&reader.next(at).await?);
    }
    body.truncate(wanted as usize);
    Ok(Some(body.into()))
}

struct Reader<'a> {
    session: &'a Session,
    handle: &'a [u8],
    /// Nothing is asked for from here on.
    end: u64,
    asked: u64,
    /// Answers in the order of their offsets, without gaps, with what was asked for.
    under_way: VecDeque<(u64, u32, Awaited)>,
}

impl Reader<'_> {
    fn ask_until(&mut self, end: u64) {
        while self.asked < end.min(self.end) && self.under_way.len() < window(self.session.read_bytes) {
            let length = u64::from(self.session.read_bytes).min(self.end - self.asked) as u32;
            let answer = self.session.send(wire::read(self.handle, self.asked, length));
            self.under_way.push_back((self.asked, length, answer));
            self.asked += u64::from(length);
        }
    }

    /// The bytes from `at` on, which the next answer holds or part of it.
    async fn next(&mut self, at: u64) -> Result<Bytes, Failure> {
        let Some((offset, length, answer)) = self.under_way.pop_front() else {
            return Err(Failure::Garbled("the file ended before its length"));
        };
        let data = answer.data().await?.ok_or(Failure::Garbled("the file ended before its length"))?;
        let got = data.len() as u64;
        if offset != at || got == 0 || got > u64::from(length) {
            return Err(Failure::Garbled("another part than was asked for"));
        }
        let wanted = u64::from(length).min(self.end - offset);
        if got < wanted {
            // Servers may give less than was asked for.
            let rest = (wanted - got) as u32;
            let answer = self.session.send(wire::read(self.handle, offset + got, rest));
            self.under_way.push_front((offset + got, rest, answer));
        }
        Ok(data)
    }
}

/// Whether a server's refusal to sync a folder means that it can't, and not that it failed.
pub(super) fn cannot_sync(failure: &Failure) -> bool {
    failure.is(code::UNSUPPORTED) || failure.is(code::BAD_MESSAGE)
}
