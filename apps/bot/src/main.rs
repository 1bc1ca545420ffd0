//! Answers commands in rooms.

fn main() {}
