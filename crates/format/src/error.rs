//! Why bytes could not be read.

/// What is wrong with the bytes of an object. The name of the object is the caller's to add.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The seal does not open: altered, cut, under another name, or sealed with another library's key.
    #[error("the seal is broken: altered, incomplete, or of another library")]
    Seal,
    /// Not one of our objects, or not of the kind that was asked for.
    #[error("not a Haven {expected}")]
    Magic { expected: &'static str },
    /// Written by a later version of Haven.
    #[error("written in format {found}, this version reads up to {known}: a newer Haven is needed")]
    Newer { found: u8, known: u8 },
    /// The seal is right but the content is not what a writer would have written.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// The content does not hash to its name.
    #[error("the content does not match its hash")]
    Hash,
}

impl From<prost::DecodeError> for FormatError {
    fn from(_: prost::DecodeError) -> Self {
        Self::Malformed("a record does not decode")
    }
}
