//! The images, run as an operator runs them. `make images-check` builds them first: `weir-agent:check` with the profile that
//! ships, `weir-sink:check` with the one of development.

use std::fs;

use serde_json::Value;

use crate::engine::{Site, asked, done, podman, until, user_of};
use crate::tools::{output, root, said, tool};

const AGENT: &str = "weir-agent:check";
const SINK: &str = "weir-sink:check";
const AGENT_DATA: &str = "/var/lib/weir-agent";
const SINK_DATA: &str = "/var/lib/weir";

/// A copy of `.env.example` with these lines set, as an operator would.
fn env_file(lines: &[String]) -> tempfile::NamedTempFile {
    let example = fs::read_to_string(root().join(".env.example")).expect(".env.example");
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), format!("{example}\n{}\n", lines.join("\n"))).expect("written");
    file
}

pub(crate) fn sink(site: &mut Site) -> String {
    let name = site.start(
        "sink",
        SINK,
        SINK_DATA,
        &["-e", "WEIR_SINK_ALLOW_PLAINTEXT=true"],
    );
    until("ready sink", || {
        podman(&["exec", &name, "/weir-sink", "health"])
            .status
            .success()
            .then_some(())
    });
    name
}

fn agent(site: &mut Site, sink: &str) -> String {
    let file = env_file(&[
        format!("WEIR_AGENT_SINK_URL=http://{sink}:4317"),
        "WEIR_AGENT_NAME=shipped".to_owned(),
        "WEIR_AGENT_ALLOW_PLAINTEXT=true".to_owned(),
    ]);
    let path = file.path().to_str().expect("a path in UTF-8");
    site.start("agent", AGENT, AGENT_DATA, &["--env-file", path])
}

/// A figure of the agent's own ledger.
pub(crate) fn own(agent: &str, figure: &str) -> Option<u64> {
    asked(agent, &["/weir-agent", "status", "--json"])?["ledger"][figure].as_u64()
}

/// Stored, spooled and unexplained readings of all streams in the sink's ledger.
pub(crate) fn sums(sink: &str) -> [i64; 3] {
    let ledger = asked(sink, &["/weir-sink", "ledger", "--json"]).expect("a ledger");
    let streams = ledger["streams"].as_array().expect("streams");
    ["stored", "spooled", "unexplained"].map(|figure| {
        let of = |stream: &Value| {
            stream[figure]
                .as_i64()
                .unwrap_or_else(|| panic!("no {figure} in {stream}"))
        };
        streams.iter().map(of).sum()
    })
}

/// Red when an image runs as root, writes outside its volume, loses a reading over a cut, or does not drain when it is told
/// to stop: what the agent's log says it delivered is then not what the sink has.
#[test]
#[ignore = "needs the images: make images-check"]
fn an_agent_delivers_across_a_cut_and_drains() {
    let mut site = Site::new();
    let sink = sink(&mut site);
    let agent = agent(&mut site, &sink);
    until("delivered readings", || {
        own(&agent, "acked").filter(|acked| *acked > 0)
    });
    for container in [&sink, &agent] {
        assert_eq!(user_of(container), "65532");
        until("good health", || {
            podman(&["healthcheck", "run", container])
                .status
                .success()
                .then_some(())
        });
    }

    done(&["network", "disconnect", &site.name, &agent]);
    let before = own(&agent, "produced").expect("a status");
    until("a backlog", || {
        own(&agent, "spooled").filter(|spooled| *spooled > 50)
    });
    assert!(own(&agent, "produced").expect("a status") > before);
    done(&["network", "connect", &site.name, &agent]);
    until("an empty spool", || {
        own(&agent, "spooled").filter(|spooled| *spooled < 50)
    });

    done(&["stop", "--time", "60", &agent]);
    assert_eq!(
        done(&["inspect", "--format", "{{.State.ExitCode}}", &agent]),
        "0"
    );
    let log = said(&podman(&["logs", &agent]));
    let last = log
        .lines()
        .find(|line| line.contains("delivery has stopped"))
        .expect("its last word");
    let acked = last
        .split("acked=")
        .nth(1)
        .expect("what was delivered")
        .trim();
    let acked: i64 = acked.parse().expect("a count");
    assert_eq!(sums(&sink), [acked, 0, 0]);
    done(&["stop", "--time", "60", &sink]);
    assert_eq!(
        done(&["inspect", "--format", "{{.State.ExitCode}}", &sink]),
        "0"
    );
}

/// How a container of the agent that cannot start ended, and what it said.
fn refused(arguments: &[&str]) -> (i32, String) {
    let run = [
        "run",
        "--rm",
        "--timeout=60",
        "--pull=never",
        "--network",
        "none",
        "--read-only",
    ];
    let ended = podman(&[&run[..], arguments].concat());
    (ended.status.code().expect("an exit code"), said(&ended))
}

/// Red when a value with quotes, spaces or the line end of another system is taken for what it is not, or the fault does not
/// say which. podman takes the line end off what stands in a file; what comes by other ways keeps it.
#[test]
#[ignore = "needs the images: make images-check"]
fn values_that_an_env_file_spoils_are_named() {
    let assert_named = |arguments: &[&str], name: &str| {
        let (code, text) = refused(arguments);
        assert_eq!(code, 64, "{name}: {text}");
        assert!(text.contains(name), "{name}: {text}");
    };
    for (line, name) in [
        ("WEIR_AGENT_SINK_URL=\"http://sink\"", "WEIR_AGENT_SINK_URL"),
        ("WEIR_AGENT_NAME='press 7'", "WEIR_AGENT_NAME"),
        ("WEIR_AGENT_RATE_BURST =2", "WEIR_AGENT_RATE_BURST"),
    ] {
        let file = env_file(&[line.to_owned()]);
        let path = file.path().to_str().expect("a path in UTF-8");
        assert_named(&["--env-file", path, AGENT], name);
    }
    let line = "WEIR_AGENT_SPOOL_MAX_BYTES=1GiB\r";
    assert_named(&["-e", line, AGENT], "WEIR_AGENT_SPOOL_MAX_BYTES");
}

/// Red when a volume that cannot be written passes, or the error does not name the directory.
#[test]
#[ignore = "needs the images: make images-check"]
fn a_volume_that_cannot_be_written_is_named() {
    for (image, data) in [(AGENT, AGENT_DATA), (SINK, SINK_DATA)] {
        let place = tempfile::tempdir().expect("a directory");
        let mounted = format!("{}:{data}:ro", place.path().display());
        let (code, text) = refused(&[
            "-e",
            "WEIR_SINK_ALLOW_PLAINTEXT=true",
            "-v",
            &mounted,
            image,
        ]);
        assert_eq!(code, 73, "{text}");
        assert!(text.contains(data), "{text}");
    }
}

/// Red when the agent's image outgrows what a slow line can bear, or one says nothing of itself.
#[test]
#[ignore = "needs the images: make images-check"]
fn images_are_small_and_say_what_they_are() {
    let size: u64 = done(&["image", "inspect", "--format", "{{.Size}}", AGENT])
        .parse()
        .expect("bytes");
    assert!(size <= 8 << 20, "the agent's image takes {size} bytes");
    for image in [AGENT, SINK] {
        let inspected = done(&["image", "inspect", image]);
        let inspected: Value = serde_json::from_str(&inspected).expect("JSON");
        let config = &inspected[0]["Config"];
        assert_eq!(config["User"], "65532:65532", "{image}");
        assert_eq!(config["StopSignal"], "SIGTERM", "{image}");
        for label in ["title", "description", "version", "revision", "licenses"] {
            let value = &config["Labels"][format!("org.opencontainers.image.{label}")];
            assert!(
                value.as_str().is_some_and(|value| !value.is_empty()),
                "{image}: {label}"
            );
        }
        let said = done(&["run", "--rm", "--pull=never", image, "--version"]);
        let revision = config["Labels"]["org.opencontainers.image.revision"]
            .as_str()
            .expect("a text");
        assert!(
            said.contains(revision),
            "{image} is of {revision} and says {said}"
        );
    }
}

/// Compose in a project of its own, gone afterwards.
struct Composed {
    project: String,
    port: String,
}

impl Composed {
    fn compose(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = tool("podman-compose");
        command
            .args(["-p", &self.project, "-f", "docker/compose.yaml"])
            .args(arguments);
        output(
            command
                .env("WEIR_SINK_HTTP_PORT", &self.port)
                .env("WEIR_IMAGE_TAG", "check"),
        )
    }
}

impl Drop for Composed {
    fn drop(&mut self) {
        self.compose(&["down", "-v", "-t", "0"]);
    }
}

/// Red when an agent starts before the sink is ready, one of the three does not deliver, or the ledger does not close once
/// they have stopped.
#[test]
#[ignore = "needs the images: make images-check"]
fn compose_comes_up_and_its_ledger_closes() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = free.local_addr().expect("an address").port().to_string();
    drop(free);
    let composed = Composed {
        project: format!("weir-test-{}", std::process::id()),
        port,
    };
    let up = composed.compose(&["up", "-d", "--no-build"]);
    assert!(up.status.success(), "{}", said(&up));
    let container = |part: &str| format!("{}_{part}_1", composed.project);
    let agents = ["host", "press", "greenhouse"];
    for part in agents {
        until(&format!("delivered readings of {part}"), || {
            own(&container(part), "acked").filter(|acked| *acked > 0)
        });
    }
    for part in agents {
        done(&["stop", "--time", "60", &container(part)]);
    }
    let [stored, spooled, unexplained] = sums(&container("sink"));
    assert!(stored > 0);
    assert_eq!((spooled, unexplained), (0, 0));
}
