//! Runs a control: a test of this program that must fail, in a process of its own.

use std::process::Command;

/// Runs an ignored test of this program and wants it to fail with these words.
pub(crate) fn must_fail(test: &str, words: &str) {
    let program = std::env::current_exe().expect("a test knows its program");
    let output = Command::new(program)
        .args(["--ignored", "--exact", test, "--nocapture"])
        .output()
        .expect("the program can be started again");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{test} did not fail");
    assert!(said.contains(words), "{test} failed otherwise: {said}");
}
