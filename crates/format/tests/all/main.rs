//! What the format crate promises to the outside: each byte layout ever released is read for ever.

mod golden;
mod made;
mod museum;
