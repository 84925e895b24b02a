mod beside;
mod checks;
mod common;
mod databases;
mod places;
