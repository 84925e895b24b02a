//! Real names with the right answers, and names made by the format's rules; parts made by another program.

mod data;
mod halves;
mod made;
mod trees;
mod zips;
