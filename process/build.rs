//! What a build is made of, for `--version`: target, profile, compiler, and the packages that Cargo.lock names.
//!
//! No times and no paths: the same sources, compiler and settings give the same words.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", lock.display());
    let text = fs::read_to_string(&lock).unwrap_or_default();
    let packages = packages(&text);
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    // target/PROFILE/build/weir-process-HASH/out
    let profile = out.ancestors().nth(3).and_then(Path::file_name);
    let profile = profile.map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let tls = ["rustls", "ring"].map(|name| {
        let found = packages.iter().find(|(package, _)| package == name);
        found.map_or_else(
            || name.to_owned(),
            |(_, version)| format!("{name} {version}"),
        )
    });
    set("TARGET", &env::var("TARGET").expect("cargo sets it"));
    set("PROFILE", &profile);
    set("RUSTC", &rustc());
    set("TLS", &tls.join(", "));
    set("LOCK", &sha256(text.as_bytes()));
    let lines = packages
        .iter()
        .map(|(name, version)| format!("{name} {version}\n"));
    fs::write(out.join("packages.txt"), lines.collect::<String>()).expect("OUT_DIR can be written");
}

fn set(name: &str, value: &str) {
    println!("cargo::rustc-env=WEIR_BUILD_{name}={value}");
}

fn rustc() -> String {
    let rustc = env::var_os("RUSTC").expect("cargo sets it");
    let said = Command::new(rustc).arg("-V").output();
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    said.unwrap_or_else(|_| "unknown".to_owned())
}

/// Names and versions, as they stand there.
fn packages(lock: &str) -> Vec<(String, String)> {
    let value = |line: Option<&str>, key: &str| {
        let quoted = line?.strip_prefix(key)?.strip_prefix(" = ")?;
        Some(quoted.trim_matches('"').to_owned())
    };
    let blocks = lock.split("[[package]]\n").skip(1);
    let named = blocks.filter_map(|block| {
        let mut lines = block.lines();
        Some((
            value(lines.next(), "name")?,
            value(lines.next(), "version")?,
        ))
    });
    named.collect()
}

/// FIPS 180-4, so that anybody can compare it with what `sha256sum Cargo.lock` says.
fn sha256(message: &[u8]) -> String {
    let primes = (2_u32..).filter(|n| (2..*n).all(|d| n % d != 0)).take(64);
    let primes: Vec<f64> = primes.map(f64::from).collect();
    // The first 32 bits behind the point of square and cube roots: a double has enough of them.
    let bits = |root: f64| (root.fract() * 4_294_967_296.0) as u32;
    let constants: Vec<u32> = primes.iter().map(|prime| bits(prime.cbrt())).collect();
    let mut state: Vec<u32> = primes[..8].iter().map(|prime| bits(prime.sqrt())).collect();
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(64), 0);
    if padded.len() - message.len() < 9 {
        padded.resize(padded.len() + 64, 0);
    }
    let end = padded.len() - 8;
    padded[end..].copy_from_slice(&(8 * message.len() as u64).to_be_bytes());
    for block in padded.chunks(64) {
        round(&mut state, block, &constants);
    }
    state.iter().map(|word| format!("{word:08x}")).collect()
}

fn round(state: &mut [u32], block: &[u8], constants: &[u32]) {
    let words = block
        .chunks(4)
        .map(|bytes| u32::from_be_bytes(bytes.try_into().expect("a block is made of words")));
    let mut schedule: Vec<u32> = words.collect();
    for at in 16..64 {
        let (early, late) = (schedule[at - 15], schedule[at - 2]);
        let first = early.rotate_right(7) ^ early.rotate_right(18) ^ (early >> 3);
        let second = late.rotate_right(17) ^ late.rotate_right(19) ^ (late >> 10);
        let sum = schedule[at - 16]
            .wrapping_add(first)
            .wrapping_add(schedule[at - 7]);
        schedule.push(sum.wrapping_add(second));
    }
    let mut v: [u32; 8] = (&*state).try_into().expect("eight words");
    for (word, constant) in schedule.iter().zip(constants) {
        let choice = (v[4] & v[5]) ^ (!v[4] & v[6]);
        let turned = v[4].rotate_right(6) ^ v[4].rotate_right(11) ^ v[4].rotate_right(25);
        let first = v[7]
            .wrapping_add(turned)
            .wrapping_add(choice)
            .wrapping_add(*constant)
            .wrapping_add(*word);
        let most = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
        let other = v[0].rotate_right(2) ^ v[0].rotate_right(13) ^ v[0].rotate_right(22);
        v.rotate_right(1);
        v[4] = v[4].wrapping_add(first);
        v[0] = first.wrapping_add(other.wrapping_add(most));
    }
    for (word, new) in state.iter_mut().zip(v) {
        *word = word.wrapping_add(new);
    }
}
