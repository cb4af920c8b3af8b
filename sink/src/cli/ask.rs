//! The commands that ask a running sink over HTTP.

use std::time::Duration;

use clap::ArgMatches;
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};
use weir_process::exit::Exit;
use weir_process::http::{ClientError, Reply};
use weir_process::output::{self, Align, Table};

use super::door::Door;
use super::{printed, show};
use crate::config::Config;
use crate::ledger::{FileLost, Files, GivenUp, GivenUpStream, Ledger};

/// Beyond the sink's own limit, so that its answer arrives.
const MARGIN: Duration = Duration::from_secs(5);
/// Reading every file of a large store takes a while.
const AUDIT_TIME: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_secs(10);

/// Why there is nothing to print.
pub(super) enum Failure {
    /// The sink cannot be asked.
    Client(ClientError),
    /// The sink says no.
    Refused(Box<Reply>),
    /// What was typed cannot be used.
    Usage(String),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

pub(super) fn run(name: &str, arguments: &ArgMatches, config: &Config) -> Exit {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(&format!("cannot start: {error}"));
            return Exit::Software;
        }
    };
    let (name, arguments) = match arguments.subcommand() {
        Some((deeper, arguments)) => (deeper, arguments),
        None => (name, arguments),
    };
    let result = runtime.block_on(async {
        let door = Door::find(arguments, config)?;
        match name {
            "settle" => settle(&door, arguments).await,
            "sql" => sql(&door, arguments, config).await,
            "ledger" => ledger(&door, arguments).await,
            "files" => files(&door, arguments).await,
            "accept-loss" => accept_loss(&door, arguments).await,
            _ => health(&door).await,
        }
    });
    result.unwrap_or_else(explain)
}

fn explain(failure: Failure) -> Exit {
    match failure {
        Failure::Client(error) => {
            output::note(&error.to_string());
            Exit::Unavailable
        }
        Failure::Usage(text) => {
            output::note(&text);
            Exit::Usage
        }
        Failure::Refused(reply) => {
            let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            match body["error"]["message"].as_str() {
                Some(message) => output::note(&output::printable(message)),
                None => output::note(&format!(
                    "the sink answered {}: is this its HTTP port?",
                    reply.status
                )),
            }
            match reply.status {
                status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                    Exit::Data
                }
                _ => Exit::Unavailable,
            }
        }
    }
}

fn expect_ok(reply: Reply) -> Result<Reply, Failure> {
    if reply.status == StatusCode::OK {
        Ok(reply)
    } else {
        Err(Failure::Refused(Box::new(reply)))
    }
}

async fn sql(door: &Door, arguments: &ArgMatches, config: &Config) -> Result<Exit, Failure> {
    let query = arguments
        .get_one::<String>("query")
        .expect("clap asks for it");
    let format = arguments
        .get_one::<String>("format")
        .expect("it has a default");
    let accept = if format == "csv" {
        "text/csv"
    } else {
        "application/json"
    };
    let body = json!({ "query": query }).to_string();
    let time = config.query.timeout + MARGIN;
    let mut call = door.call(Method::POST, &door.url("/v1/sql"), time);
    let accept = HeaderValue::from_static(accept);
    call.headers.insert(header::ACCEPT, accept);
    call.body = body.into();
    let reply = call.send().await?;
    let reply = expect_ok(reply)?;
    if reply.headers.contains_key("x-weir-truncated") {
        output::note("there are more rows: raise query.max_rows, or ask for less");
    }
    Ok(match format.as_str() {
        "table" => match rows(&reply.text()) {
            Some(table) => printed(table.print()),
            None => unreadable(),
        },
        "json" => printed(output::line(&reply.text())),
        _ => printed(output::bytes(&reply.body)),
    })
}

/// An answer in JSON as a table: numbers right, an absent value empty.
fn rows(text: &str) -> Option<Table> {
    let answer: Value = serde_json::from_str(text).ok()?;
    let columns = answer["columns"].as_array()?;
    let headings = columns.iter().map(|column| {
        let kind = column["type"].as_str().unwrap_or("");
        let number = ["int", "uint", "float", "decimal"]
            .iter()
            .any(|n| kind.starts_with(n));
        let align = if number { Align::Right } else { Align::Left };
        (column["name"].as_str().unwrap_or("?"), align)
    });
    let mut table = Table::new(headings);
    for row in answer["rows"].as_array()? {
        table.row(row.as_array()?.iter().map(|cell| match cell {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }));
    }
    Some(table)
}

async fn ledger(door: &Door, arguments: &ArgMatches) -> Result<Exit, Failure> {
    let mut url = door.url("/v1/ledger");
    let audit = arguments.get_flag("audit");
    {
        let mut query = url.query_pairs_mut();
        if let Some(agent) = arguments.get_one::<String>("agent") {
            query.append_pair("agent", agent);
        }
        for (name, set) in [("open", arguments.get_flag("open")), ("audit", audit)] {
            if set {
                query.append_pair(name, "true");
            }
        }
    }
    let reply = expect_ok(
        door.call(Method::GET, &url, if audit { AUDIT_TIME } else { SHORT })
            .send()
            .await?,
    )?;
    let Ok(ledger) = serde_json::from_slice::<Ledger>(&reply.body) else {
        return Ok(unreadable());
    };
    let shown = if arguments.get_flag("json") {
        output::json(&ledger)
    } else {
        output::text(&show::ledger(&ledger))
    };
    let exit = printed(shown);
    let audits = ledger.audit.iter().flatten();
    let audited = audits
        .clone()
        .all(|line| line.unexplained == 0 && line.faults.is_empty());
    if exit == Exit::Ok && (ledger.totals.unexplained_streams > 0 || !audited) {
        output::note("the ledger does not close: readings are unexplained");
        return Ok(Exit::Failure);
    }
    Ok(exit)
}

async fn settle(door: &Door, arguments: &ArgMatches) -> Result<Exit, Failure> {
    let mut url = door.url("/v1/ledger/settle");
    for name in ["agent", "stream"] {
        if let Some(value) = arguments.get_one::<String>(name) {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    let reply = door.call(Method::POST, &url, SHORT).send().await?;
    let reply = expect_ok(reply)?;
    let Ok(given_up) = serde_json::from_slice::<GivenUp>(&reply.body) else {
        return Ok(unreadable());
    };
    let mut text = String::new();
    for stream in &given_up.streams {
        let agent = output::printable(&stream.agent);
        let GivenUpStream {
            stream_id,
            readings,
            ..
        } = stream;
        text.push_str(&format!(
            "{agent}: {readings} readings of stream {stream_id} count as lost\n"
        ));
    }
    if text.is_empty() {
        text.push_str("nothing to settle: no such stream holds readings and is away\n");
    }
    Ok(printed(output::text(&text)))
}

async fn files(door: &Door, arguments: &ArgMatches) -> Result<Exit, Failure> {
    let reply = expect_ok(
        door.call(Method::GET, &door.url("/v1/files"), SHORT)
            .send()
            .await?,
    )?;
    let Ok(files) = serde_json::from_slice::<Files>(&reply.body) else {
        return Ok(unreadable());
    };
    let shown = if arguments.get_flag("json") {
        output::json(&files)
    } else {
        output::text(&show::files(&files))
    };
    let exit = printed(shown);
    Ok(match exit {
        Exit::Ok if !files.damaged.is_empty() => Exit::Failure,
        exit => exit,
    })
}

async fn accept_loss(door: &Door, arguments: &ArgMatches) -> Result<Exit, Failure> {
    let mut url = door.url("/v1/files/accept-loss");
    let file = arguments
        .get_one::<String>("file")
        .expect("clap asks for it");
    url.query_pairs_mut().append_pair("file", file);
    // It is read whole before.
    let reply = door.call(Method::POST, &url, AUDIT_TIME).send().await?;
    let reply = expect_ok(reply)?;
    let Ok(lost) = serde_json::from_slice::<FileLost>(&reply.body) else {
        return Ok(unreadable());
    };
    Ok(printed(output::line(&format!(
        "{}: {} readings count as dropped, file_lost",
        output::printable(&lost.file),
        lost.readings
    ))))
}

async fn health(door: &Door) -> Result<Exit, Failure> {
    let url = door.url("/readyz");
    let reply = door.call(Method::GET, &url, SHORT).send().await?;
    if reply.status == StatusCode::UNAUTHORIZED {
        return Err(Failure::Refused(Box::new(reply)));
    }
    let exit = printed(output::text(&reply.text()));
    Ok(match exit {
        Exit::Ok if reply.status != StatusCode::OK => Exit::Failure,
        exit => exit,
    })
}

fn unreadable() -> Exit {
    output::note("the answer cannot be read: is this a weir-sink of the same version?");
    Exit::Unavailable
}
