//! Tokens of a sink, made by the command an operator uses.

use std::path::{Path, PathBuf};
use std::process::Output;

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::{Sink, run_once};
use crate::{http as client, programs};

impl Sink {
    /// A command of `weir-sink` on the sink's own machine: it finds the sink by its data directory.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let data = std::path::absolute(self.data()).expect("an absolute path");
        let data = data.to_str().expect("UTF-8");
        run_once(
            &programs::sink(),
            arguments,
            &[("WEIR_SINK_DATA_DIR", data)],
        )
    }

    /// Starts a sink that speaks TLS, by certificates of its own that `weir-sink certs init` makes first.
    ///
    /// # Panics
    /// The command fails.
    pub async fn start_tls(parent: &Path, settings: &[(&str, &str)]) -> Self {
        let tls = parent.join("sink/data/tls");
        let out = tls.to_str().expect("UTF-8");
        let arguments = ["certs", "init", "--name", "localhost", "--out", out];
        let made = run_once(&programs::sink(), &arguments, &[]);
        assert!(made.status.success(), "{made:?}");
        let file = |name: &str| format!("{out}/{name}");
        let files = [
            ("TLS_CERT", file("server.crt")),
            ("TLS_KEY", file("server.key")),
            ("TLS_CA", file("ca.crt")),
            ("TLS_CA_KEY", file("ca.key")),
        ];
        let mut all: Vec<(&str, &str)> = settings.to_vec();
        all.extend(files.iter().map(|(name, value)| (*name, value.as_str())));
        Self::start(parent, &all).await
    }

    /// The certificate of the CA that a sink of [`Sink::start_tls`] has.
    pub fn ca(&self) -> PathBuf {
        std::path::absolute(self.data().join("tls/ca.crt")).expect("an absolute path")
    }

    /// A new token to enrol with, as the command shows it.
    pub fn enroll_token(&self, arguments: &str) -> String {
        self.made("enroll-token", arguments)
    }

    /// The same in a file beside the sink.
    pub fn enroll_token_file(&self, name: &str, arguments: &str) -> PathBuf {
        let path = self.data().join(name);
        std::fs::write(&path, self.enroll_token(arguments)).expect("written");
        std::path::absolute(path).expect("an absolute path")
    }

    /// A new token, as the command shows it; `arguments` as in `--role reader --tenant plant`.
    ///
    /// # Panics
    /// The command fails.
    pub fn token(&self, arguments: &str) -> String {
        self.made("token", arguments)
    }

    fn made(&self, command: &str, arguments: &str) -> String {
        let arguments: Vec<&str> = [command, "create"]
            .into_iter()
            .chain(arguments.split_whitespace())
            .collect();
        let made = self.command(&arguments);
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        assert!(made.status.success(), "{said}");
        String::from_utf8(made.stdout)
            .expect("UTF-8")
            .trim()
            .to_owned()
    }

    /// A new token in a file beside the sink.
    pub fn token_file(&self, name: &str, arguments: &str) -> PathBuf {
        let path = self.data().join(name);
        std::fs::write(&path, self.token(arguments)).expect("written");
        std::path::absolute(path).expect("an absolute path")
    }

    /// Status and body of a request that shows this token; of a POST where there is a body.
    ///
    /// # Panics
    /// The sink does not answer.
    pub async fn show(&self, token: &str, path: &str, body: Option<&str>) -> (StatusCode, Bytes) {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        let headers = if token.is_empty() { &[][..] } else { &headers };
        client::ask(self.http, path, headers, body.map(str::to_owned))
            .await
            .expect("the sink answers")
    }

    /// Rows of a query that shows this token; an error of the sink fails the test.
    pub async fn sql_as(&self, token: &str, query: &str) -> Vec<Vec<Value>> {
        let body = serde_json::json!({ "query": query }).to_string();
        let (status, body) = self.show(token, "/v1/sql", Some(&body)).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        let answer: Value = serde_json::from_slice(&body).expect("a JSON answer");
        let rows = answer["rows"].as_array().expect("rows");
        rows.iter()
            .map(|row| row.as_array().expect("a row").clone())
            .collect()
    }

    /// One object per stream of the tenant of this token.
    pub async fn ledger_as(&self, token: &str) -> Vec<Value> {
        let (status, body) = self.show(token, "/v1/ledger", None).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        let answer: Value = serde_json::from_slice(&body).expect("a JSON ledger");
        answer["streams"].as_array().expect("streams").clone()
    }

    /// The audit log as the command shows it.
    pub fn audit_log(&self) -> Vec<Value> {
        let shown = self.command(&["audit", "--json"]);
        assert!(shown.status.success(), "{shown:?}");
        let log: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
        log["lines"].as_array().expect("lines").clone()
    }
}
