//! Generates the code of `schema/*.capnp` with the compiler `capnp`.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

const SCHEMA: &str = "../../schema";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    // For files that come; their golden messages lie in a folder below and are rarely touched.
    println!("cargo::rerun-if-changed={SCHEMA}");
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(SCHEMA)? {
        let path = entry?.path();
        if path.extension().is_some_and(|name| name == "capnp") {
            files.push(path);
        }
    }
    files.sort();
    let mut compiler = capnpc::CompilerCommand::new();
    compiler.src_prefix(SCHEMA);
    for file in files {
        compiler.file(file);
    }
    compiler.run()?;
    Ok(())
}
