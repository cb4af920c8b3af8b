//! How the static agent is linked: relocations packed, which makes its file and what of it stays in memory smaller.
//!
//! Only where it carries its own C library: a system's loader may be too old to unpack them.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let has = |name: &str, wanted: &str| {
        std::env::var(name).is_ok_and(|value| value.split(',').any(|one| one == wanted))
    };
    if has("CARGO_CFG_TARGET_OS", "linux")
        && has("CARGO_CFG_TARGET_ENV", "gnu")
        && has("CARGO_CFG_TARGET_FEATURE", "crt-static")
    {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
