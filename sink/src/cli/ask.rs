//! The commands that ask a running sink over HTTP.

use std::time::Duration;

use clap::ArgMatches;
use http::StatusCode;
use serde_json::{Value, json};
use url::Url;
use weir_process::exit::Exit;
use weir_process::http::{ClientError, Reply, get, post};
use weir_process::output::{self, Align, Table};

use super::{printed, show};
use crate::config::Config;
use crate::ledger::{FileLost, Files, GivenUp, GivenUpStream, Ledger};
use crate::run::Endpoints;

/// Beyond the sink's own limit, so that its answer arrives.
const MARGIN: Duration = Duration::from_secs(5);
/// Reading every file of a large store takes a while.
const AUDIT_TIME: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_secs(10);

/// Why there is nothing to print.
enum Failure {
    /// The sink cannot be asked.
    Client(ClientError),
    /// The sink says no.
    Refused(Box<Reply>),
    /// The URL is not one.
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
        let base = base(arguments, config)?;
        match name {
            "settle" => settle(&base, arguments).await,
            "sql" => sql(&base, arguments, config).await,
            "ledger" => ledger(&base, arguments).await,
            "files" => files(&base, arguments).await,
            "accept-loss" => accept_loss(&base, arguments).await,
            _ => health(&base).await,
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

/// Where the sink answers.
fn base(arguments: &ArgMatches, config: &Config) -> Result<Url, Failure> {
    if let Some(text) = arguments.get_one::<String>("url") {
        return Url::parse(text)
            .map_err(|error| Failure::Usage(format!("cannot read --url {text}: {error}")));
    }
    let mut address = Endpoints::read(&config.data_dir).map_or(config.http_listen, |e| e.http);
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        };
        address.set_ip(loopback);
    }
    Ok(Url::parse(&format!("http://{address}")).expect("an address makes a URL"))
}

fn join(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(path);
    url
}

fn expect_ok(reply: Reply) -> Result<Reply, Failure> {
    if reply.status == StatusCode::OK {
        Ok(reply)
    } else {
        Err(Failure::Refused(Box::new(reply)))
    }
}

async fn sql(base: &Url, arguments: &ArgMatches, config: &Config) -> Result<Exit, Failure> {
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
    let reply = post(
        &join(base, "/v1/sql"),
        "application/json",
        accept,
        body,
        time,
    )
    .await?;
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

async fn ledger(base: &Url, arguments: &ArgMatches) -> Result<Exit, Failure> {
    let mut url = join(base, "/v1/ledger");
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
    let reply = expect_ok(get(&url, if audit { AUDIT_TIME } else { SHORT }).await?)?;
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

async fn settle(base: &Url, arguments: &ArgMatches) -> Result<Exit, Failure> {
    let mut url = join(base, "/v1/ledger/settle");
    for name in ["agent", "stream"] {
        if let Some(value) = arguments.get_one::<String>(name) {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    let json = "application/json";
    let reply = post(&url, json, json, String::new(), SHORT).await?;
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

async fn files(base: &Url, arguments: &ArgMatches) -> Result<Exit, Failure> {
    let reply = expect_ok(get(&join(base, "/v1/files"), SHORT).await?)?;
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

async fn accept_loss(base: &Url, arguments: &ArgMatches) -> Result<Exit, Failure> {
    let mut url = join(base, "/v1/files/accept-loss");
    let file = arguments
        .get_one::<String>("file")
        .expect("clap asks for it");
    url.query_pairs_mut().append_pair("file", file);
    let json = "application/json";
    // It is read whole before.
    let reply = post(&url, json, json, String::new(), AUDIT_TIME).await?;
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

async fn health(base: &Url) -> Result<Exit, Failure> {
    let reply = get(&join(base, "/readyz"), SHORT).await?;
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
