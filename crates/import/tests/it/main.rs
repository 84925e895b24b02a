mod away;
mod counts;
mod dates;
mod halves;
mod imports;
mod lanes;
mod later;
#[allow(dead_code, reason = "the tests of the commands use it too")]
mod made;
mod memory;
mod plans;
mod stacks;
mod streams;
