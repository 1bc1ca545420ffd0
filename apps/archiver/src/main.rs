//! Keeps rooms as compressed JSON lines.

fn main() {}
