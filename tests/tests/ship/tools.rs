//! The tools that `make tools` installs from PyPI, and what they say.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The top of the checkout.
pub(crate) fn root() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    path.canonicalize().expect("the workspace exists")
}

/// A tool by its name, started in the checkout.
pub(crate) fn tool(name: &str) -> Command {
    let home = std::env::var("HOME").expect("HOME is set");
    let path = Path::new(&home)
        .join(".cache/weir/tools/venv/bin")
        .join(name);
    assert!(
        path.exists(),
        "{name} is not installed: run `make tools` (it needs python3 and the network)"
    );
    let mut command = Command::new(path);
    command.current_dir(root());
    command
}

/// Runs it to its end.
pub(crate) fn output(command: &mut Command) -> Output {
    command
        .stdin(Stdio::null())
        .output()
        .expect("the tool starts")
}

/// Both streams of its output, as text.
pub(crate) fn said(output: &Output) -> String {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    format!("{out}{err}")
}

/// `helm template` of a release with these arguments.
pub(crate) fn template(arguments: &[&str]) -> Output {
    output(
        tool("helm")
            .args(["template", "weir", "charts"])
            .args(arguments),
    )
}

/// The documents of a YAML text.
pub(crate) fn documents(yaml: &Path) -> Vec<Value> {
    let program = "import json, sys, yaml\nprint(json.dumps([d for d in yaml.safe_load_all(open(sys.argv[1])) if d]))";
    let output = output(tool("python3").args(["-c", program]).arg(yaml));
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).expect("python prints JSON")
}
