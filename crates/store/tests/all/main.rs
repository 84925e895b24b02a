//! The tests of the store crate, one binary. `every_file_here_is_part_of_this_binary` guards the list.

mod conformance;
mod decorators;
mod dir;
mod open;
mod probe;
mod s3;
mod servers;
mod sftp;
mod ssh_peer;
mod started;
mod webdav;

use haven_store::ObjectName;

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).expect("a valid name")
}

#[test]
fn every_file_here_is_part_of_this_binary() {
    let main = include_str!("main.rs");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/all");
    for entry in std::fs::read_dir(folder).expect("the folder of tests") {
        let file = entry.expect("an entry").file_name().into_string().expect("a plain name");
        let module = file.trim_end_matches(".rs");
        assert!(module == "main" || main.contains(&format!("mod {module};")), "{file} is not listed in main.rs");
    }
}
