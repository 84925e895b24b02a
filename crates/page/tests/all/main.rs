//! The page as browsers and programs see it, over a library that was made up.

mod documents;
mod fake;
mod inside;
mod live;
mod outside;
mod web;
