//! Telling people what happened, and making sure that they were told.
//!
//! ```text
//! Conditions ──▶ Message ──▶ Outbox (a file each) ──▶ Postman ──▶ channel ──▶ receipt
//!  new, worse,                 survives kill -9        tries, waits,   one file
//!  still so, recovered                                 goes to the next one each
//! ```
//! Promises: a message that [`Outbox::put`] has taken is delivered, or is still there and says why not; what a channel
//! has acknowledged is not sent again. Where the process was killed between an acknowledgement and its note (a file's
//! fsync), the message is sent once more and says that it may have been told before. What the outbox can't take, for its disk
//! is full, [`Postman::hand_over`] tells without it.
//! Secrets come from files alone, and are in no error and no log.

mod channel;
mod condition;
mod credential;
mod http;
mod message;
mod outbox;
mod postman;
mod settings;
mod switch;
mod text;

pub use channel::{Channel, Receipt, SendError};
pub use condition::{Book, Condition, Manner};
pub use credential::Credential;
pub use http::{Http, Limits};
pub use message::{Message, Severity};
pub use outbox::{Delivery, Letter, Outbox, OutboxError};
pub use postman::{Postman, Route};
pub use settings::{ChannelSettings, MailTls};
pub use switch::{Ping, Switch};
pub use text::{cut_bytes, cut_utf16, last_lines};
