//! Brings photos into a photo server, loses nothing, can be killed at any moment, and accounts for every file.
//! ```text
//!   parts, folders ──index──▶ journal (SQLite) ──plan──▶ contents, sidecars, albums
//!                                │                                      │
//!                             report                    upload ──▶ group ──▶ verify ──▶ server (a port)
//! ```
//! Promises: media bytes are never altered; distinct bytes are read and sent once; every entry ends in exactly one bucket;
//! nothing on the server is deleted or replaced, and nothing there is matched by name or date.
//!
//! If it is killed: the journal says what was done, and what was under way is found again by its SHA-1. Running the same
//! command again goes on from there.

mod asked;
mod buffer;
mod choose;
mod clock;
mod compare;
mod content;
mod copies;
mod counted;
mod describe;
mod foreseen;
mod group;
mod halves;
pub mod immich;
mod index;
mod input;
pub mod jobs;
mod journal;
mod lane;
mod late;
pub mod near;
mod options;
mod outlook;
mod pace;
mod patience;
mod peek;
mod pile;
mod plan;
mod progress;
pub mod raw;
pub mod report;
mod rows;
mod run;
pub mod server;
mod source;
mod stream;
mod sum;
mod upload;
mod verify;
mod walk;

pub use compare::{Cap, CompareError, Compared, ServerFacts, cap, compare};
pub use copies::{CopiesRead, read_copies};
pub use counted::Counted;
pub use foreseen::Foreseen;
pub use halves::settle;
pub use haven_takeout::parts::Export;
pub use index::{IndexError, Indexed, PartTrouble, exports, homeless, index};
pub use input::{Input, InputError, InputKind, Takeouts, plain, takeouts};
pub use journal::{Journal, JournalError};
pub use options::{BANS, FolderAlbums, Locked, Only, Options, Partner, Source, Stacks};
pub use outlook::{
    Doubtful, Estimate, FILES_PER_SECOND, Large, Listed, Measures, Misnamed, Outlook, USUAL_CAP_BYTES, Unmatched,
    outlook,
};
pub use pace::{Bound, Left, Pace, Seen, WaitsFor};
pub use patience::{Stop, Waits};
pub use peek::peek;
pub use plan::plan;
pub use progress::Progress;
pub use run::{Setup, run};
