//! Makes sure that the folder of the web client exists, so that it can be embedded whether it was built or not, and
//! notes the commit for `/version`.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

fn main() {
    let client = Path::new("../web/dist");
    // Cargo reruns a script for ever whose watched path is missing, and the embedding fails without a folder.
    if !client.exists()
        && let Err(error) = fs::create_dir_all(client)
    {
        println!("cargo::error=cannot create {}: {error}", client.display());
    }
    println!("cargo::rerun-if-changed=../web/dist");
    println!("cargo::rerun-if-env-changed=STACK_BUILD_COMMIT");

    // A development build would be rebuilt by every commit to show a commit that it does not quite contain.
    let release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let head_log = Path::new("../../.git/logs/HEAD");
    if release && head_log.exists() {
        println!("cargo::rerun-if-changed={}", head_log.display());
    }
    let commit = env::var("STACK_BUILD_COMMIT")
        .ok()
        .or_else(|| release.then(commit_of_checkout).flatten())
        .unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=STACK_BUILD_COMMIT={commit}");
}

fn commit_of_checkout() -> Option<String> {
    let output = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let commit = String::from_utf8(output.stdout).ok()?;
    Some(commit.trim().to_owned())
}
