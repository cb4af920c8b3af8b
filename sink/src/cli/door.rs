//! Where the sink is asked, and what is shown there.
//!
//! The token that the sink leaves in its data directory goes to the sink of that directory and nowhere else: not to a
//! `--url` that is another address than its `endpoints.json` names. That sink is known by the very certificate that
//! `endpoints.json` names, whatever names it is for; another one by the CA of `--ca`, or by those this system trusts.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use http::{HeaderValue, Method, header};
use url::{Host, Url};
use weir_process::http::Call;
use weir_process::secret::Secret;
use weir_process::tls::{Client, ClientSettings, Trust};

use super::ask::Failure;
use crate::access::TENANT_HEADER;
use crate::config::Config;
use crate::model::is_tenant;
use crate::run::{Endpoints, LocalToken};

/// See the module.
pub(super) struct Door {
    base: Url,
    tls: Arc<Client>,
    bearer: Option<HeaderValue>,
    tenant: Option<HeaderValue>,
}

impl Door {
    /// What arguments and settings say.
    pub(super) fn find(arguments: &ArgMatches, config: &Config) -> Result<Self, Failure> {
        let given = arguments.get_one::<String>("url");
        let found = Endpoints::read(&config.data_dir);
        let is_found = found.is_some();
        let endpoints = found.unwrap_or_else(|| configured(config));
        let base = match given {
            Some(text) => Url::parse(text)
                .map_err(|error| Failure::Usage(format!("cannot read --url {text}: {error}")))?,
            None => base(&endpoints),
        };
        let is_there = is_at(&base, &endpoints);
        let own = is_found && is_there;
        let token = match (arguments.get_one::<String>("token-file"), &config.token) {
            (Some(path), _) => Some(read(path)?),
            (None, Some(token)) => Some(token.clone()),
            (None, None) if own => LocalToken::read(&config.data_dir),
            (None, None) => None,
        };
        let trust = match (arguments.get_one::<PathBuf>("ca"), endpoints.tls) {
            (Some(path), _) => Trust::File(path.clone()),
            (None, Some(path)) if is_there => Trust::Exactly(path),
            (None, _) => Trust::System,
        };
        let tls = Client::new(ClientSettings {
            trust,
            identity: None,
            setting: "--ca",
        });
        let tenant = arguments.get_one::<String>("tenant");
        if let Some(tenant) = tenant.filter(|tenant| !is_tenant(tenant)) {
            return Err(Failure::Usage(format!(
                "--tenant {tenant:?} cannot be a tenant: write lower case letters, digits and hyphens"
            )));
        }
        Ok(Self {
            base,
            tls: Arc::new(tls),
            bearer: token.as_ref().map(bearer).transpose()?,
            tenant: tenant
                .map(|tenant| header_of(tenant, "--tenant"))
                .transpose()?,
        })
    }

    /// Where this path is asked for.
    pub(super) fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(path);
        url
    }

    /// A request, with what is shown.
    pub(super) fn call(&self, method: Method, url: &Url, timeout: Duration) -> Call {
        let is_post = method == Method::POST;
        let mut call = Call::new(method, url, timeout);
        call.tls = Some(Arc::clone(&self.tls));
        let headers = &mut call.headers;
        if is_post {
            let json = HeaderValue::from_static("application/json");
            headers.insert(header::CONTENT_TYPE, json.clone());
            headers.insert(header::ACCEPT, json);
        }
        if let Some(bearer) = &self.bearer {
            headers.insert(header::AUTHORIZATION, bearer.clone());
        }
        if let Some(tenant) = &self.tenant {
            headers.insert(TENANT_HEADER, tenant.clone());
        }
        call
    }
}

/// Where a sink of these settings listens, when it has not said.
fn configured(config: &Config) -> Endpoints {
    Endpoints {
        grpc: config.grpc_listen,
        http: config.http_listen,
        tls: config.tls.as_ref().map(|files| files.cert.clone()),
    }
}

/// Where it answers.
fn base(endpoints: &Endpoints) -> Url {
    let mut address = endpoints.http;
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        };
        address.set_ip(loopback);
    }
    let scheme = if endpoints.tls.is_some() {
        "https"
    } else {
        "http"
    };
    Url::parse(&format!("{scheme}://{address}")).expect("an address makes a URL")
}

/// Whether this is the port of the sink of the data directory, on this machine.
fn is_at(base: &Url, endpoints: &Endpoints) -> bool {
    let own = endpoints.http;
    let here = |ip: IpAddr| ip.is_loopback() || ip == own.ip();
    let is_here = match base.host() {
        Some(Host::Ipv4(ip)) => here(ip.into()),
        Some(Host::Ipv6(ip)) => here(ip.into()),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    is_here && base.port_or_known_default() == Some(own.port())
}

fn read(path: &str) -> Result<Secret, Failure> {
    let text = Secret::read(Path::new(path)).map_err(|error| {
        Failure::Usage(format!("cannot read --token-file {path}: {}", error.kind()))
    })?;
    Ok(Secret::new(text.expose().trim()))
}

fn bearer(token: &Secret) -> Result<HeaderValue, Failure> {
    let text = format!("Bearer {}", token.expose());
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| Failure::Usage("the token cannot be read: copy it as it was shown".into()))?;
    // `Debug` of a request does not show it.
    value.set_sensitive(true);
    Ok(value)
}

fn header_of(text: &str, name: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(text).map_err(|_| Failure::Usage(format!("{name} {text:?} is not one")))
}
