//! Containers as an operator runs them, by podman; whatever a test made is gone when it ends.

#![allow(clippy::print_stderr, reason = "what a failed case leaves behind")]

use std::fs;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::tools::said;

/// No case waits longer for one condition.
const LIMIT: Duration = Duration::from_secs(120);

/// `podman` with these arguments, to its end.
pub(crate) fn podman(arguments: &[&str]) -> Output {
    Command::new("podman")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("podman starts")
}

/// The same; it must succeed. Answers what it printed.
pub(crate) fn done(arguments: &[&str]) -> String {
    let output = podman(arguments);
    assert!(
        output.status.success(),
        "podman {arguments:?}: {}",
        said(&output)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Waits until `probe` answers.
pub(crate) fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(
            began.elapsed() < LIMIT,
            "no {what} within {} s",
            LIMIT.as_secs()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A network with a sink and an agent's volume, under names of its own.
pub(crate) struct Site {
    pub(crate) name: String,
    containers: Vec<String>,
    pods: Vec<String>,
    volumes: Vec<String>,
}

impl Site {
    pub(crate) fn new() -> Site {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("weir-test-{}-{number}", std::process::id());
        done(&["network", "create", &name]);
        Site {
            name,
            containers: Vec::new(),
            pods: Vec::new(),
            volumes: Vec::new(),
        }
    }

    /// Starts a container of `image` in the background: read-only, without capabilities, its data on a volume. Answers its
    /// name, by which others of the site reach it.
    pub(crate) fn start(&mut self, part: &str, image: &str, data: &str, more: &[&str]) -> String {
        let name = format!("{}-{part}", self.name);
        let volume = format!("{name}-data:{data}");
        let own = [
            "run",
            "-d",
            "--pull=never",
            "--network",
            &self.name,
            "--name",
            &name,
            "-v",
            &volume,
            "--read-only",
            "--cap-drop=all",
            "--security-opt=no-new-privileges",
        ];
        self.containers.push(name.clone());
        self.volumes.push(format!("{name}-data"));
        done(&[&own[..], more, &[image]].concat());
        name
    }

    /// A container that somebody else makes, gone with the site.
    pub(crate) fn holds(&mut self, name: &str) {
        self.containers.push(name.to_owned());
    }

    /// The same for a pod.
    pub(crate) fn holds_pod(&mut self, name: &str) {
        self.pods.push(name.to_owned());
    }

    /// The same for a volume.
    pub(crate) fn holds_volume(&mut self, name: &str) {
        self.volumes.push(name.to_owned());
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for name in &self.containers {
            if std::thread::panicking() {
                eprintln!(
                    "--- log of {name}\n{}",
                    said(&podman(&["logs", "--tail", "40", name]))
                );
            }
            podman(&["rm", "-f", "-t", "0", name]);
        }
        for name in &self.pods {
            if std::thread::panicking() {
                let logs = podman(&["pod", "logs", "--names", "--tail", "40", name]);
                eprintln!("--- logs of pod {name}\n{}", said(&logs));
            }
            podman(&["pod", "rm", "-f", "-t", "0", name]);
        }
        for name in &self.volumes {
            podman(&["volume", "rm", "-f", name]);
        }
        podman(&["network", "rm", "-f", &self.name]);
    }
}

/// What a command inside a container answers as JSON; None while it does not.
pub(crate) fn asked(container: &str, command: &[&str]) -> Option<Value> {
    let output = podman(&[&["exec", container][..], command].concat());
    serde_json::from_slice(&output.stdout).ok()
}

/// The user id that the container's program runs as, as this host sees it.
pub(crate) fn user_of(container: &str) -> String {
    let pid = done(&["inspect", "--format", "{{.State.Pid}}", container]);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the program runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .expect("a Uid line");
    line.split_whitespace()
        .next()
        .expect("a user id")
        .to_owned()
}
