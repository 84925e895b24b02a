//! The page as browsers and programs see it, over a library that was made up.

mod documents;
#[allow(dead_code, reason = "the example uses more of it")]
mod fake;
mod inside;
mod live;
mod outside;
mod web;
