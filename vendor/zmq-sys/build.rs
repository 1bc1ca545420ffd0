//! Builds libzmq from source with the libsodium of the system, both to be linked in statically.
//!
//! `libsodium.a` is where the C compiler finds it; `SODIUM_LIB_DIR` and `SODIUM_INCLUDE_DIR` name another place.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let told = |name: &str| {
        println!("cargo:rerun-if-env-changed={name}");
        env::var_os(name).map(PathBuf::from)
    };
    let lib = told("SODIUM_LIB_DIR").unwrap_or_else(found);
    let include = told("SODIUM_INCLUDE_DIR").unwrap_or_else(|| "/usr/include".into());
    // Not our code, whatever the compiler thinks of it.
    let flags = env::var("CXXFLAGS").unwrap_or_default();
    env::set_var("CXXFLAGS", format!("{flags} -w"));
    zeromq_src::Build::new()
        .with_libsodium(Some(zeromq_src::LibLocation::new(&lib, include)))
        .build();
    // The builder says this too, but in quotes that the linker takes for part of the path.
    println!("cargo:rustc-link-search=native={}", lib.display());
}

/// The folder of the library.
fn found() -> PathBuf {
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let said = Command::new(compiler)
        .arg("-print-file-name=libsodium.a")
        .output()
        .map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    match said {
        // What is not found is said back as it was asked for.
        Ok(path) if path.is_absolute() => path.parent().expect("a file is in a folder").into(),
        _ => panic!("libsodium.a is missing: install libsodium-dev, or set SODIUM_LIB_DIR and SODIUM_INCLUDE_DIR"),
    }
}
