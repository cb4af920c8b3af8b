//! What the Debian package installs: its settings are those of the program, and its unit gives it time to drain.

use std::fs;

use crate::tools::root;

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The values of a directive of the unit, in their order.
fn directive<'a>(unit: &'a str, name: &str) -> Vec<&'a str> {
    let values = unit
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    values.collect()
}

/// Names and defaults of the agent's variables, as `.env.example` has them.
fn variables(example: &str) -> Vec<(&str, &str)> {
    let lines = example.lines().map(|line| line.trim_start_matches('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs
        .filter(|(name, _)| name.starts_with("WEIR_AGENT_"))
        .collect()
}

/// Red when `agent.env` names a variable that the program does not know, or calls a default one that is none.
#[test]
fn the_packages_settings_are_the_programs() {
    let (example, own) = (read(".env.example"), read("agent/packaging/agent.env"));
    let known = variables(&example);
    let own = variables(&own);
    assert!(own.len() > 2, "{own:?}");
    for (name, value) in own {
        let default = known.iter().find(|known| known.0 == name);
        let default = default.unwrap_or_else(|| panic!("{name} is no setting")).1;
        let chosen = matches!(name, "WEIR_AGENT_PROFILE" | "WEIR_AGENT_DATA_DIR");
        assert!(
            chosen || value == default,
            "{name}: {value} is not its default, {default}"
        );
    }
}

/// Red when the unit is stopped before the program has drained, starts a wrong setting again and again, or lets the program
/// do what it never does.
#[test]
fn the_unit_gives_time_and_takes_rights() {
    let unit = read("agent/packaging/weir-agent.service");
    let example = read(".env.example");
    let grace = variables(&example)
        .into_iter()
        .find(|(name, _)| *name == "WEIR_AGENT_SHUTDOWN_GRACE");
    let grace: u64 = grace
        .expect("a setting")
        .1
        .trim_end_matches('s')
        .parse()
        .expect("seconds");
    let stop: u64 = directive(&unit, "TimeoutStopSec")[0]
        .parse()
        .expect("seconds");
    assert!(
        stop > grace,
        "the unit waits {stop} s for a drain of {grace} s"
    );
    assert_eq!(directive(&unit, "RestartPreventExitStatus"), ["64"]);
    assert_eq!(directive(&unit, "ExecStart"), ["/usr/bin/weir-agent run"]);
    let place = format!(
        "WEIR_AGENT_DATA_DIR=/var/lib/{}",
        directive(&unit, "StateDirectory")[0]
    );
    assert_eq!(directive(&unit, "Environment"), [&*place]);
    let own = read("agent/packaging/agent.env");
    assert!(own.lines().any(|line| line == place), "{place}");
    let manifest = read("agent/Cargo.toml");
    for asset in [
        "\"usr/bin/\"",
        "\"etc/weir/agent.env\"",
        "\"../.env.example\"",
    ] {
        assert!(manifest.contains(asset), "the package has no {asset}");
    }
    for (name, value) in [
        ("DynamicUser", "yes"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("ProtectSystem", "strict"),
        ("MemoryDenyWriteExecute", "yes"),
        ("SystemCallArchitectures", "native"),
    ] {
        assert_eq!(directive(&unit, name), [value], "{name}");
    }
}
