//! The binary as people meet it: whole commands, and whole answers as snapshots.
//! `INSTA_UPDATE=always cargo test -p haven` writes them anew; look at the difference before believing it.

mod bad_input;
mod copies;
mod drilling;
mod export;
mod help;
mod importing;
mod keeping;
mod keys;
mod machine;
#[allow(dead_code, reason = "it is shared with the tests of haven-import")]
#[path = "../../../import/tests/it/made.rs"]
mod made;
mod making;
mod mounted;
mod museum;
mod parts;
mod points;
mod recovering;
mod replicas;
mod run;
mod scripting;
