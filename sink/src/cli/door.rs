//! Where the sink is asked, and what is shown there.
//!
//! The token that the sink leaves in its data directory goes to the sink of that directory and nowhere else: not to a
//! `--url` that is another address than its `endpoints.json` names.

use std::net::IpAddr;
use std::time::Duration;

use clap::ArgMatches;
use http::{HeaderValue, Method, header};
use url::{Host, Url};
use weir_process::http::Call;
use weir_process::secret::Secret;

use super::ask::Failure;
use crate::access::TENANT_HEADER;
use crate::config::Config;
use crate::run::{Endpoints, LocalToken};

/// See the module.
pub(super) struct Door {
    base: Url,
    bearer: Option<HeaderValue>,
    tenant: Option<HeaderValue>,
}

impl Door {
    /// What arguments and settings say.
    pub(super) fn find(arguments: &ArgMatches, config: &Config) -> Result<Self, Failure> {
        let given = arguments.get_one::<String>("url");
        let endpoints = Endpoints::read(&config.data_dir);
        let base = match given {
            Some(text) => Url::parse(text)
                .map_err(|error| Failure::Usage(format!("cannot read --url {text}: {error}")))?,
            None => base(endpoints.as_ref(), config),
        };
        let own = endpoints.is_some_and(|own| is_at(&base, &own));
        let token = match (arguments.get_one::<String>("token-file"), &config.token) {
            (Some(path), _) => Some(read(path)?),
            (None, Some(token)) => Some(token.clone()),
            (None, None) if own => LocalToken::read(&config.data_dir),
            (None, None) => None,
        };
        let tenant = arguments.get_one::<String>("tenant");
        Ok(Self {
            base,
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

/// Where a sink of these settings answers.
fn base(endpoints: Option<&Endpoints>, config: &Config) -> Url {
    let mut address = endpoints.map_or(config.http_listen, |endpoints| endpoints.http);
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        };
        address.set_ip(loopback);
    }
    Url::parse(&format!("http://{address}")).expect("an address makes a URL")
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
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| {
        Failure::Usage(format!("cannot read --token-file {path}: {}", error.kind()))
    })?;
    Ok(Secret::new(text.trim()))
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
