//! Real names with the right answers, and names made by the format's rules.

mod data;
mod made;
mod trees;
