//! The chart: every set of values renders to objects that Kubernetes takes, wrong values are refused by name, and its
//! settings are those of the programs.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::tools::{documents, output, root, said, template, tool};

/// Every file of values that we ship; the chart's own defaults among them.
const VALUES: [&str; 4] = [
    "charts/values.yaml",
    "values/values.yaml",
    "values/edge.yaml",
    "values/production.yaml",
];

/// The objects of a release with these arguments.
fn objects(arguments: &[&str]) -> Vec<Value> {
    let rendered = template(arguments);
    assert!(
        rendered.status.success(),
        "{arguments:?}: {}",
        said(&rendered)
    );
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), &rendered.stdout).expect("written");
    documents(file.path())
}

fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

#[test]
fn lint_finds_nothing() {
    let linted = output(tool("helm").args(["lint", "--strict", "charts"]));
    assert!(linted.status.success(), "{}", said(&linted));
}

/// Red when a template misspells a field, as `replica:` for `replicas:` in the StatefulSet.
#[test]
fn every_set_of_values_renders_to_what_kubernetes_takes() {
    for values in VALUES {
        let rendered = template(&["--values", values]);
        assert!(rendered.status.success(), "{values}: {}", said(&rendered));
        let file = tempfile::Builder::new()
            .suffix(".yaml")
            .tempfile()
            .expect("a temporary file");
        fs::write(file.path(), &rendered.stdout).expect("written");
        let verdict = output(tool("kubernetes-validate").arg("--strict").arg(file.path()));
        let text = said(&verdict);
        assert!(
            verdict.status.success() && !text.contains("WARN"),
            "{values}: {text}"
        );
        assert!(
            text.contains("passed"),
            "{values}: nothing was validated: {text}"
        );
    }
}

#[test]
fn wrong_values_are_refused_by_name() {
    for (arguments, named) in [
        (&["--set", "sink.replica=3"][..], "replica"),
        (
            &["--set", "agent.settings.WEIR_AGENT_SINK_URI=x"],
            "WEIR_AGENT_SINK_URI",
        ),
        (
            &["--set", "agent.settings.WEIR_SINK_DATA_DIR=x"],
            "WEIR_SINK_DATA_DIR",
        ),
        (
            &["--set-string", "agent.settings.WEIR_AGENT_NAME='x'"],
            "WEIR_AGENT_NAME",
        ),
        (&["--set", "agent.kind=Pod"], "agent.kind"),
        (&["--set", "agent.spool.type=pvc"], "agent.spool.type"),
        (
            &["--set", "sink.service.grpcPort=0"],
            "sink.service.grpcPort",
        ),
        (&["--set", "sink.image.digest=latest"], "sink.image.digest"),
        (
            &["--set", "sink.terminationGracePeriodSeconds=5"],
            "sink.terminationGracePeriodSeconds",
        ),
        (&["--set", "sink.enabled=false"], "agent.sinkUrl"),
        (
            &[
                "--set",
                "sink.tls.enrolment=true,sink.tls.existingSecret=tls",
            ],
            "sink.tls.clientCaSecret",
        ),
        (
            &[
                "--set",
                "agent.podMonitor.enabled=true,agent.hostAccess.network=true",
            ],
            "agent.podMonitor.enabled",
        ),
        (
            &["--set", "envFile=WEIR_AGENT_NAME=\"x\""],
            "WEIR_AGENT_NAME",
        ),
        (&["--set", "envFile=AGENT_NAME=x"], "line 1"),
    ] {
        let refused = template(arguments);
        assert!(!refused.status.success(), "{arguments:?} was taken");
        assert!(
            said(&refused).contains(named),
            "{arguments:?} does not name {named}: {}",
            said(&refused)
        );
    }
}

/// The schema names exactly the settings of `.env.example`, which a test of the programs holds equal to what they read.
#[test]
fn settings_of_the_schema_are_those_of_the_programs() {
    let example = fs::read_to_string(root().join(".env.example")).expect(".env.example");
    let schema = fs::read_to_string(root().join("charts/values.schema.json")).expect("the schema");
    let schema: Value = serde_json::from_str(&schema).expect("the schema is JSON");
    for (part, prefix) in [("sink", "WEIR_SINK_"), ("agent", "WEIR_AGENT_")] {
        let lines = example
            .lines()
            .filter_map(|line| line.trim_start_matches('#').split_once('='));
        let of_programs: BTreeSet<_> = lines
            .map(|(name, _)| name)
            .filter(|name| name.starts_with(prefix))
            .collect();
        let settings =
            schema["properties"][part]["properties"]["settings"]["properties"].as_object();
        let of_schema: BTreeSet<_> = settings
            .expect("settings")
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(of_schema, of_programs);
    }
}

/// The agent is told the client Service's name and port; a whole `.env` file becomes the ConfigMaps, and single settings win.
#[test]
fn agents_are_pointed_at_the_sink_of_the_release() {
    let place = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(place.path(), "# ours\nWEIR_SINK_RETENTION_DAYS=30\r\nWEIR_AGENT_SAMPLE_INTERVAL=3s\nWEIR_AGENT_RATE_BURST=2\n").expect("written");
    let file = format!("envFile={}", place.path().display());
    let arguments = [
        "--set",
        "sink.service.grpcPort=14317,agent.settings.WEIR_AGENT_RATE_BURST=5",
        "--set-file",
        &file,
    ];
    let objects = objects(&arguments);
    let agent = &object(&objects, "ConfigMap", "weir-agent")["data"];
    assert_eq!(agent["WEIR_AGENT_SINK_URL"], "http://weir-sink:14317");
    assert_eq!(agent["WEIR_AGENT_SAMPLE_INTERVAL"], "3s");
    assert_eq!(agent["WEIR_AGENT_RATE_BURST"], "5");
    assert_eq!(
        object(&objects, "ConfigMap", "weir-sink")["data"]["WEIR_SINK_RETENTION_DAYS"],
        "30"
    );
    let ports = object(&objects, "Service", "weir-sink")["spec"]["ports"]
        .as_array()
        .expect("ports")
        .clone();
    assert!(
        ports
            .iter()
            .any(|port| port["port"] == 14317 && port["targetPort"] == "grpc"),
        "{ports:?}"
    );
}

/// Tokens stand in Secrets, whichever way they were given, and the pods have them. Red when `weir.secretKeys` misses one.
#[test]
fn secrets_never_stand_in_a_config_map() {
    let example = fs::read_to_string(root().join(".env.example")).expect(".env.example");
    let secret = example
        .lines()
        .filter_map(|line| line.strip_prefix("# or ")?.split_once("_FILE: "));
    let keys: Vec<_> = secret.map(|(key, _)| key).collect();
    assert!(keys.len() >= 3, "{keys:?}");
    let place = tempfile::NamedTempFile::new().expect("a temporary file");
    let lines = keys.iter().map(|key| format!("{key}=marker-{key}\n"));
    fs::write(place.path(), lines.collect::<String>()).expect("written");
    let file = format!("envFile={}", place.path().display());
    let settings: Vec<_> = keys
        .iter()
        .map(|key| {
            let part = if key.starts_with("WEIR_SINK_") {
                "sink"
            } else {
                "agent"
            };
            format!("{part}.settings.{key}=marker-{key}")
        })
        .collect();
    for arguments in [["--set-file", &file], ["--set", &settings.join(",")]] {
        let objects = objects(&arguments);
        for object in &objects {
            let text = object.to_string();
            assert!(
                object["kind"] == "Secret" || !text.contains("marker-"),
                "{text}"
            );
        }
        for (part, kind) in [("sink", "StatefulSet"), ("agent", "DaemonSet")] {
            let name = format!("weir-{part}");
            let data = &object(&objects, "Secret", &name)["stringData"];
            let own = keys
                .iter()
                .filter(|key| key.starts_with(&format!("WEIR_{}_", part.to_uppercase())));
            for key in own {
                assert_eq!(data[key], format!("marker-{key}"));
            }
            let container =
                &object(&objects, kind, &name)["spec"]["template"]["spec"]["containers"][0];
            let sources = container["envFrom"].as_array().expect("sources");
            assert!(
                sources.contains(&json!({"secretRef": {"name": name}})),
                "{sources:?}"
            );
        }
    }
    assert!(objects(&[]).iter().all(|object| object["kind"] != "Secret"));
}

/// With a CA's key in its Secret the sink enrols; without the word for it the key is not read.
#[test]
fn agents_enrol_in_a_cluster() {
    let sink = |arguments: &str| {
        object(&objects(&["--set", arguments]), "ConfigMap", "weir-sink")["data"].clone()
    };
    let tls = "sink.tls.existingSecret=tls,sink.tls.clientCaSecret=ca";
    let with = sink(&format!("{tls},sink.tls.enrolment=true"));
    assert_eq!(with["WEIR_SINK_TLS_CA_KEY"], "/etc/weir/client-ca/ca.key");
    assert_eq!(with["WEIR_SINK_TLS_CA"], "/etc/weir/client-ca/ca.crt");
    assert!(sink(tls).get("WEIR_SINK_TLS_CA_KEY").is_none());
}

/// Pods meet the restricted Pod Security Standard unless a value asks for more, and each such value asks for one thing.
#[test]
fn pods_are_restricted_by_default() {
    for object in objects(&[]) {
        let spec = match object["kind"].as_str() {
            Some("Pod") => &object["spec"],
            Some("StatefulSet" | "DaemonSet" | "Deployment") => &object["spec"]["template"]["spec"],
            _ => continue,
        };
        let name = &object["metadata"]["name"];
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true, "{name}");
        assert_eq!(
            spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault",
            "{name}"
        );
        assert_eq!(spec["automountServiceAccountToken"], false, "{name}");
        assert!(
            spec.get("hostNetwork").is_none() && spec.get("hostPID").is_none(),
            "{name}"
        );
        for container in spec["containers"].as_array().expect("containers") {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}), "{name}");
        }
        for volume in spec["volumes"].as_array().into_iter().flatten() {
            assert!(volume.get("hostPath").is_none(), "{name}: {volume}");
        }
    }
}

/// A change of a setting rolls the pods of that part, and not of the other.
#[test]
fn a_changed_setting_rolls_its_pods() {
    let sums = |arguments: &[&str]| {
        let objects = objects(arguments);
        let sum = |kind, name| {
            object(&objects, kind, name)["spec"]["template"]["metadata"]["annotations"]["checksum/config"].clone()
        };
        (
            sum("StatefulSet", "weir-sink"),
            sum("DaemonSet", "weir-agent"),
        )
    };
    let (sink, agent) = sums(&[]);
    let changed = sums(&["--set", "sink.settings.WEIR_SINK_RETENTION_DAYS=3"]);
    assert!(sink.is_string() && changed.0 != sink && changed.1 == agent);
    let changed = sums(&["--set", "agent.settings.WEIR_AGENT_PROFILE=edge"]);
    assert!(changed.0 == sink && changed.1 != agent);
}

/// What an upgrade must find again under the same name, or the data stays behind: a claim is `<template>-<set>-<number>`.
#[test]
fn an_upgrade_finds_the_data_again() {
    let objects = objects(&[]);
    let set = &object(&objects, "StatefulSet", "weir-sink")["spec"];
    assert_eq!(set["volumeClaimTemplates"][0]["metadata"]["name"], "data");
    assert_eq!(set["serviceName"], "weir-sink-headless");
    let selector = json!({"app.kubernetes.io/name": "weir", "app.kubernetes.io/instance": "weir", "app.kubernetes.io/component": "sink"});
    assert_eq!(set["selector"]["matchLabels"], selector);
    let container = &set["template"]["spec"]["containers"][0];
    assert_eq!(
        container["volumeMounts"][0],
        json!({"name": "data", "mountPath": "/var/lib/weir"})
    );
    assert_eq!(
        object(&objects, "ConfigMap", "weir-sink")["data"]["WEIR_SINK_DATA_DIR"],
        "/var/lib/weir"
    );
}

/// A pod has longer to end than its program takes to drain.
#[test]
fn pods_have_longer_than_their_drain() {
    let example = fs::read_to_string(root().join(".env.example")).expect(".env.example");
    for values in VALUES {
        for object in objects(&["--values", values]) {
            let spec = &object["spec"]["template"]["spec"];
            let Some(grace) = spec["terminationGracePeriodSeconds"].as_u64() else {
                continue;
            };
            let part = spec["containers"][0]["name"]
                .as_str()
                .expect("a name")
                .to_uppercase();
            let line = example
                .lines()
                .find_map(|line| line.strip_prefix(&format!("#WEIR_{part}_SHUTDOWN_GRACE=")));
            let drain: u64 = line
                .expect("a default")
                .trim_end_matches('s')
                .parse()
                .expect("seconds");
            assert!(
                grace > drain,
                "{values}: {part} has {grace} s for a drain of {drain} s"
            );
        }
    }
}
