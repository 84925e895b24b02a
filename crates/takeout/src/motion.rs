//! Motion photos: a JPEG with a video behind it. Google sometimes recompresses the picture, and what it says of the video
//! is then void: only a video that really is there counts.

/// How many bytes of a video's beginning are asked for its mark.
const MARK_BYTES: usize = 8;

/// Is there a valid video at the end of this JPEG, where its XMP says? `head` are its first bytes, with the XMP; `at` reads
/// eight bytes at a place in it.
pub fn has_video(head: &[u8], bytes: u64, at: impl Fn(u64) -> Option<[u8; MARK_BYTES]>) -> bool {
    let starts = lengths(head, bytes).into_iter().filter_map(|length| bytes.checked_sub(length));
    starts.filter_map(at).any(|mark| &mark[4..] == b"ftyp")
}

/// What the XMP says of the video's length, in bytes from the end of the file.
fn lengths(head: &[u8], bytes: u64) -> Vec<u64> {
    let Some(xmp) = xmp(head) else { return vec![] };
    let mut found = vec![];
    // Until 2019 or so an offset; since then a container whose last item is the video.
    for key in ["MicroVideoOffset=\"", "MicroVideoOffset>"] {
        found.extend(number_after(xmp, key));
    }
    for item in xmp.split("<Container:Item").chain(xmp.split("Item:Mime=\"video")).skip(1) {
        let video = item.contains("video/") || item.starts_with('/');
        found.extend(["Item:Length=\"", "Item:Length>"].iter().filter(|_| video).filter_map(|k| number_after(item, k)));
    }
    found.retain(|length| *length > MARK_BYTES as u64 && *length < bytes);
    found
}

fn number_after(text: &str, key: &str) -> Option<u64> {
    let rest = &text[text.find(key)? + key.len()..];
    rest[..rest.find(|c: char| !c.is_ascii_digit())?].parse().ok()
}

/// The XMP document in the segments before the picture.
fn xmp(jpeg: &[u8]) -> Option<&str> {
    const NAME: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
    let mut rest = jpeg.strip_prefix(b"\xff\xd8")?;
    loop {
        let (&[0xff, kind, high, low], _) = rest.split_first_chunk::<4>()? else { return None };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let segment = rest.get(4..2 + length)?;
        if kind == 0xe1 && segment.starts_with(NAME) {
            return std::str::from_utf8(&segment[NAME.len()..]).ok();
        }
        // The picture begins: what follows are no segments.
        if kind == 0xda {
            return None;
        }
        rest = rest.get(2 + length..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jpeg(said: &str, video: &[u8]) -> Vec<u8> {
        let document = format!("http://ns.adobe.com/xap/1.0/\0<x:xmpmeta {said}</x:xmpmeta>");
        let length = (document.len() as u16 + 2).to_be_bytes();
        [b"\xff\xd8\xff\xe1", &length[..], document.as_bytes(), b"\xff\xda\x00\x04ab\xff\xd9", video].concat()
    }

    fn has_video(jpeg: &[u8]) -> bool {
        super::has_video(jpeg, jpeg.len() as u64, |at| {
            jpeg.get(at as usize..at as usize + MARK_BYTES).and_then(|mark| mark.try_into().ok())
        })
    }

    #[test]
    fn only_a_video_that_is_there_counts() {
        let video = b"\0\0\0\x18ftypmp42........";
        let old = format!("GCamera:MicroVideoOffset=\"{}\"/>", video.len());
        assert!(has_video(&jpeg(&old, video)));
        assert!(!has_video(&jpeg(&old, b"recompressed: no video")));
        let item = format!("<Container:Item Item:Mime=\"video/mp4\" Item:Length=\"{}\"/>", video.len());
        assert!(has_video(&jpeg(&item, video)));
        assert!(!has_video(&jpeg("GCamera:MicroVideoOffset=\"99999999\"/>", video)));
        assert!(!has_video(b"\xff\xd8\xff\xe1\xff\xff") && !has_video(b""));
    }
}
