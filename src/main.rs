//! The `homeward` command.

fn main() {}
