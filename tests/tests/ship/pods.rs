//! The chart's pods, run by podman from what helm renders: the nearest thing to a cluster on one machine.
//!
//! `podman kube play` takes pods and ConfigMaps. What controllers of a cluster would do stands here: a pod is made from its
//! template, a claim is named after its set and becomes a volume, a Service's name is that of its pod. Left out is what
//! podman cannot do: probes (it asks with a shell, our images have none; `health` of the program is asked in their place),
//! annotations longer than 63 characters, ServiceAccounts, NetworkPolicies and PodDisruptionBudgets.

use std::fs;

use serde_json::{Value, json};

use crate::engine::{Site, asked, done, podman, until, user_of};
use crate::images::{own, sums};
use crate::tools::{documents, output, root, said, tool};

/// A release of the chart on a network of its own, gone afterwards.
struct Release {
    site: Site,
    /// The files that podman was given, by which it takes the pods down again.
    played: tempfile::TempDir,
}

impl Release {
    fn new() -> Release {
        Release {
            site: Site::new(),
            played: tempfile::tempdir().expect("a directory"),
        }
    }

    /// What helm renders for this release with the images that are tried.
    fn objects(&self, arguments: &[&str]) -> Vec<Value> {
        let images = "sink.image.tag=check,agent.image.tag=check";
        let rendered = output(
            tool("helm")
                .args(["template", &self.site.name, "charts", "--set", images])
                .args(arguments),
        );
        assert!(rendered.status.success(), "{}", said(&rendered));
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(file.path(), &rendered.stdout).expect("written");
        documents(file.path())
    }

    fn part(&self, part: &str) -> String {
        format!("{}-{part}", self.site.name)
    }

    /// The container of a part, as podman names it.
    fn container(&self, part: &str) -> String {
        format!("{}-{part}", self.part(part))
    }

    /// Starts what controllers would make of these objects.
    fn play(&mut self, file: &str, objects: Vec<Value>) {
        let mut texts = Vec::new();
        for object in objects {
            if object["kind"] == "ConfigMap" {
                texts.push(object.to_string());
            }
            if let Some(pod) = self.pod_of(object) {
                texts.push(pod.to_string());
            }
        }
        let path = self.played.path().join(file);
        fs::write(&path, texts.join("\n---\n")).expect("written");
        done(&[
            "kube",
            "play",
            "--network",
            &self.site.name,
            path.to_str().expect("a path in UTF-8"),
        ]);
    }

    /// The pod that this object stands for, None where it stands for none.
    fn pod_of(&mut self, object: Value) -> Option<Value> {
        let name = object["metadata"]["name"].as_str().expect("a name");
        let (template, claims) = match object["kind"].as_str() {
            Some("Pod") => (&object, None),
            Some("StatefulSet" | "Deployment") => (
                &object["spec"]["template"],
                object["spec"]["volumeClaimTemplates"].as_array(),
            ),
            _ => return None,
        };
        let mut spec = template["spec"].clone();
        let volumes = spec["volumes"].as_array().into_iter().flatten().cloned();
        let mut volumes: Vec<Value> = volumes.collect();
        for claim in claims.into_iter().flatten() {
            let claimed = &claim["metadata"]["name"];
            let volume = format!("{}-{name}-0", claimed.as_str().expect("a name"));
            self.site.holds_volume(&volume);
            volumes.push(json!({"name": claimed, "persistentVolumeClaim": {"claimName": volume}}));
        }
        // podman's volumes are the whole machine's, an emptyDir's name among them.
        let own = |name: &Value| json!(self.part(name.as_str().expect("a name")));
        for volume in &mut volumes {
            volume["name"] = own(&volume["name"]);
        }
        spec["volumes"] = json!(volumes);
        for container in spec["containers"].as_array_mut().expect("containers") {
            let fields = container.as_object_mut().expect("a map");
            fields.retain(|field, _| !field.ends_with("Probe") && field != "ports");
            for mount in container["volumeMounts"]
                .as_array_mut()
                .into_iter()
                .flatten()
            {
                mount["name"] = own(&mount["name"]);
            }
        }
        self.site.holds_pod(name);
        let metadata = json!({"name": name, "labels": template["metadata"]["labels"]});
        Some(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))
    }

    /// Ends a pod as the kubelet would, with its grace, and takes it away.
    fn end(&self, part: &str) {
        let pod = self.part(part);
        done(&["pod", "stop", "--time", "60", &pod]);
        let code = ["inspect", "--format", "{{.State.ExitCode}}"];
        let container = self.container(part);
        assert_eq!(done(&[&code[..], &[&container]].concat()), "0", "{part}");
        done(&["pod", "rm", &pod]);
    }

    /// Runs the chart's test, as `helm test` does.
    fn test(&mut self, file: &str, objects: &[Value]) {
        let is_test = |object: &&Value| object["metadata"]["annotations"]["helm.sh/hook"] == "test";
        let test = objects.iter().find(is_test).expect("a test").clone();
        let name = test["metadata"]["name"]
            .as_str()
            .expect("a name")
            .to_owned();
        let containers = test["spec"]["containers"].as_array().expect("containers");
        let parts = containers.iter().map(|container| container["name"].clone());
        let parts: Vec<Value> = parts.collect();
        let settings = objects
            .iter()
            .filter(|object| object["kind"] == "ConfigMap");
        self.play(file, settings.cloned().chain([test]).collect());
        for part in parts {
            let container = format!("{name}-{}", part.as_str().expect("a name"));
            let code = until("end of the chart's test", || {
                let state = [
                    "inspect",
                    "--format",
                    "{{.State.Status}} {{.State.ExitCode}}",
                ];
                let state = done(&[&state[..], &[&container]].concat());
                state.strip_prefix("exited ").map(str::to_owned)
            });
            assert_eq!(code, "0", "{}", said(&podman(&["logs", &container])));
        }
        done(&["pod", "rm", "-f", &name]);
    }

    /// Everything but the test, which helm holds back.
    fn install(&mut self, file: &str, arguments: &[&str]) -> Vec<Value> {
        let objects = self.objects(arguments);
        let is_hook =
            |object: &Value| object["metadata"]["annotations"]["helm.sh/hook"].is_string();
        let installed = objects.iter().filter(|object| !is_hook(object));
        self.play(file, installed.cloned().collect());
        let (sink, agent) = (self.container("sink"), self.container("agent"));
        until("delivered readings", || {
            own(&agent, "acked").filter(|acked| *acked > 0)
        });
        for container in [&sink, &agent] {
            assert_eq!(user_of(container), "65532");
            let read_only = ["inspect", "--format", "{{.HostConfig.ReadonlyRootfs}}"];
            assert_eq!(done(&[&read_only[..], &[container]].concat()), "true");
        }
        objects
    }
}

/// Red when a template gives a program a setting it refuses, points agents elsewhere than at the sink, puts the data where the
/// next pod does not look (`mountPath: /var/lib/weir/data`, a claim by another name), or gives it less time than its drain.
#[test]
#[ignore = "needs the images: make images-check"]
fn a_release_delivers_and_an_upgrade_keeps_its_readings() {
    assert!(root().join("charts").exists());
    let mut release = Release::new();
    let deployment = "agent.kind=Deployment,agent.settings.WEIR_AGENT_NAME=before";
    let objects = release.install("first", &["--set", deployment]);
    release.test("test", &objects);
    let sink = release.container("sink");
    release.end("agent");
    let [stored, spooled, unexplained] = sums(&sink);
    assert!(stored > 0);
    assert_eq!((spooled, unexplained), (0, 0));
    until("every reading in an answer", || {
        (rows_before(&sink) == Some(stored)).then_some(())
    });
    release.end("sink");

    let upgrade = "agent.kind=Deployment,agent.settings.WEIR_AGENT_NAME=after,sink.resources.limits.memory=2Gi,\
        sink.settings.WEIR_SINK_STORE_FLUSH_INTERVAL=2s";
    let upgraded = ["--values", "values/values.yaml", "--set", upgrade];
    let objects = release.install("second", &upgraded);
    release.test("test-again", &objects);
    release.end("agent");
    let [after, spooled, unexplained] = sums(&sink);
    assert_eq!((spooled, unexplained), (0, 0));
    assert!(after > stored, "{after} readings after, {stored} before");
    assert_eq!(rows_before(&sink), Some(stored));
    release.end("sink");
}

/// Readings of the agent that was there before the upgrade, as the sink answers.
fn rows_before(sink: &str) -> Option<i64> {
    let query = "select count(*) from samples where agent = 'before'";
    let answer = asked(sink, &["/weir-sink", "sql", "--format", "json", query])?;
    answer["rows"][0][0].as_i64()
}
