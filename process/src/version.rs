//! What a program says of its own build.

use crate::metrics::COMMIT;

/// Name and version of every package that Cargo.lock names, one a line.
pub const PACKAGES: &str = include_str!(concat!(env!("OUT_DIR"), "/packages.txt"));

/// Version and commit, and in further lines what the program was built from and with. Without times: the same sources give
/// the same words.
pub fn long(version: &str) -> String {
    format!(
        "{version} ({COMMIT})\n\
         target      {}\n\
         profile     {}\n\
         compiler    {}\n\
         tls         {}\n\
         Cargo.lock  sha256:{}",
        env!("WEIR_BUILD_TARGET"),
        env!("WEIR_BUILD_PROFILE"),
        env!("WEIR_BUILD_RUSTC"),
        env!("WEIR_BUILD_TLS"),
        env!("WEIR_BUILD_LOCK"),
    )
}
