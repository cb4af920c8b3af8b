//! The demo itself, as `make demo` runs it.

use std::process::Command;

#[test]
fn demo_ends_with_a_closed_ledger() {
    // Brings the programs up to date and tells where they are.
    let demo = weir_tests::programs::sink().with_file_name("weir-demo");
    let output = Command::new(demo).output().expect("the demo starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for expected in ["SIGKILL", "system.memory.usage", "unexplained", "done:"] {
        assert!(said.contains(expected), "no {expected} in:\n{said}");
    }
}
