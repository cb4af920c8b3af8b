//! Where the two programs are, built if they are not.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();

/// Takes copies of both programs in `from`, kept in `own`, from now on: a long run is not to change
/// its programs because somebody builds. Without `from` those beside this very program.
///
/// # Errors
/// They are not there, or cannot be copied.
///
/// # Panics
/// When programs were started before.
pub fn copy(from: Option<&Path>, own: &Path) -> io::Result<()> {
    let beside = std::env::current_exe()?;
    let from = from.or(beside.parent()).unwrap_or(Path::new("."));
    for name in ["weir-agent", "weir-sink"] {
        std::fs::copy(from.join(name), own.join(name)).map_err(|error| {
            io::Error::new(error.kind(), format!("{}/{name}: {error}", from.display()))
        })?;
    }
    DIRECTORY
        .set(own.to_owned())
        .expect("programs are chosen before the first is started");
    Ok(())
}

/// Path of `weir-agent`, as built from this workspace.
pub fn agent() -> PathBuf {
    directory().join("weir-agent")
}

/// Path of `weir-sink`, as built from this workspace.
pub fn sink() -> PathBuf {
    directory().join("weir-sink")
}

/// The directory this very program stands in (less `deps/`), with both programs brought up to
/// date once: a test never runs against a binary of yesterday.
///
/// # Panics
/// When the programs do not build.
fn directory() -> &'static Path {
    DIRECTORY.get_or_init(|| {
        let own = std::env::current_exe().expect("a program knows its own path");
        let mut directory = own.parent().expect("a program stands in a directory");
        if directory.ends_with("deps") {
            directory = directory
                .parent()
                .expect("deps/ stands in a profile's directory");
            build();
        }
        directory.to_path_buf()
    })
}

fn build() {
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--workspace", "--bins"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "weir-agent and weir-sink do not build");
}
