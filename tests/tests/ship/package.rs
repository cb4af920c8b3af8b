//! The Debian package on a Debian: apt installs it, its service's command delivers, and what a removal leaves is what its user
//! wants. `make images-check` packs the program of the dev profile first.
//!
//! A container has no systemd: what the unit says of user, environment and directory is done here in its place.

use crate::engine::{Site, asked, done, podman, until};
use crate::images::{sink, sums};
use crate::tools::said;

const SYSTEM: &str = "docker.io/library/debian:bookworm-slim";
/// A user as systemd makes them for `DynamicUser=`.
const USER: &str = "61184";
const SPOOL: &str = "/var/lib/weir-agent";
const SETTINGS: &str = "/etc/weir/agent.env";

/// A Debian with the package in its root.
struct Machine(String);

impl Machine {
    fn start(site: &mut Site) -> Machine {
        let package = std::env::var("WEIR_PACKAGE").expect("make images-check says where it is");
        let mounted = format!("{package}:/weir-agent.deb:ro");
        let (name, network) = (format!("{}-debian", site.name), site.name.clone());
        site.holds(&name);
        let run = ["run", "-d", "--pull=never", "--network", &network];
        let own = ["--name", &name, "-v", &mounted, SYSTEM, "sleep", "infinity"];
        done(&[&run[..], &own].concat());
        Machine(name)
    }

    /// What a shell command prints; it must succeed.
    fn shell(&self, command: &str) -> String {
        done(&["exec", &self.0, "sh", "-ec", command])
    }

    fn apt(&self, arguments: &str) -> String {
        let output = self.shell(&format!(
            "DEBIAN_FRONTEND=noninteractive apt-get {arguments} 2>&1"
        ));
        assert!(!output.contains("rror"), "{output}");
        output
    }

    /// The value of a directive of the installed unit.
    fn unit(&self, directive: &str) -> String {
        let unit = self.shell("cat /usr/lib/systemd/system/weir-agent.service");
        let value = unit
            .lines()
            .find_map(|line| line.strip_prefix(directive)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("no {directive}")).to_owned()
    }

    /// Runs a command of the unit as the unit does.
    fn service(&self, command: &str, more: &[&str]) -> String {
        let file = self.settings();
        let settings = format!("--env-file={}", file.path().display());
        let environment = format!("--env={}", self.unit("Environment"));
        let exec = ["exec", "--user", USER, &environment, &settings];
        let command: Vec<&str> = command.split(' ').collect();
        done(&[&exec[..], more, &[&self.0], &command].concat())
    }

    /// A copy of the installed settings, for podman to hand on as systemd does.
    fn settings(&self) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let text = self.shell(&format!("cat {SETTINGS}"));
        std::fs::write(file.path(), text).expect("written");
        file
    }

    fn has(&self, path: &str) -> bool {
        podman(&["exec", &self.0, "test", "-e", path])
            .status
            .success()
    }
}

/// Red when the package lacks what the unit starts, its settings are not those the program reads, an upgrade overwrites them,
/// `apt remove` takes settings or spool, or `apt purge` leaves them (`maintainer-scripts` out of the manifest).
#[test]
#[ignore = "needs the package and the images: make images-check"]
fn the_package_installs_delivers_and_leaves_what_it_should() {
    let mut site = Site::new();
    let sink = sink(&mut site);
    let machine = Machine::start(&mut site);
    machine.apt("install -qy /weir-agent.deb");
    assert_eq!(
        machine.shell(&format!("stat -c '%a %U' {SETTINGS}")),
        "640 root"
    );
    machine.shell(&format!(
        "sed -i 's#^WEIR_AGENT_SINK_URL=.*#WEIR_AGENT_SINK_URL=http://{sink}:4317#' {SETTINGS}"
    ));
    for line in [
        "WEIR_AGENT_NAME=packaged",
        "WEIR_AGENT_ALLOW_PLAINTEXT=true",
    ] {
        machine.shell(&format!("echo {line} >>{SETTINGS}"));
    }

    machine.shell(&format!("install -d -m 700 -o {USER} -g {USER} {SPOOL}"));
    let checked = machine.service(&machine.unit("ExecStartPre"), &[]);
    assert!(checked.contains("packaged"), "{checked}");
    machine.service(&machine.unit("ExecStart"), &["-d"]);
    let by_hand = ["weir-agent", "--env-file", SETTINGS];
    until("delivered readings", || {
        let status = asked(&machine.0, &[&by_hand[..], &["status", "--json"]].concat())?;
        status["ledger"]["acked"]
            .as_u64()
            .filter(|acked| *acked > 0)
    });
    let doctor = [&["exec", &machine.0][..], &by_hand, &["doctor"]].concat();
    let doctor = podman(&doctor);
    assert!(doctor.status.success(), "{}", said(&doctor));

    machine.shell("kill -TERM $(pidof weir-agent)");
    until("end of the program", || {
        let running = podman(&["exec", &machine.0, "pidof", "weir-agent"]);
        (!running.status.success()).then_some(())
    });
    let [stored, spooled, unexplained] = sums(&sink);
    assert!(stored > 0);
    assert_eq!((spooled, unexplained), (0, 0));

    machine.apt("install -qy --reinstall /weir-agent.deb");
    assert!(
        machine
            .shell(&format!("cat {SETTINGS}"))
            .contains("packaged")
    );
    machine.apt("remove -qy weir-agent");
    assert!(!machine.has("/usr/bin/weir-agent"));
    assert!(machine.has(SETTINGS) && machine.has(&format!("{SPOOL}/spool")));
    machine.apt("purge -qy weir-agent");
    for path in ["/etc/weir", SPOOL, "/usr/share/doc/weir-agent"] {
        assert!(!machine.has(path), "{path} is still there");
    }
}
