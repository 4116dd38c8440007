//! Code that holds no system call stays byte by byte what its file says, after it was used.
//!
//! Both texts hold the bytes of a system call inside constants and instructions, and are used by half of all programs.

mod harness;

#[test]
fn libcrypto_is_left_as_it_is() {
    harness::guest::check("pages_libcrypto.py");
}

#[test]
fn the_text_of_node_is_left_as_it_is() {
    harness::guest::check("pages_node.js");
}
