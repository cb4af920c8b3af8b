//! Where the sink is, whether the way there is encrypted, and that it is not in the clear by accident.

use std::path::PathBuf;
use std::time::SystemTime;

use url::{Host, Url};
use weir_process::config::Reader;
use weir_process::tls::{ClientSettings, Identity, Trust, check_cas};

use super::Purpose;

/// The sink's URL: a scheme, a host, a port and nothing else.
pub(super) fn sink_url(reader: &mut Reader, purpose: Purpose) -> Url {
    let url = reader.url("sink.url");
    let allow_plaintext = reader.bool("allow_plaintext");
    match url.scheme() {
        "http" if purpose != Purpose::Ask && !allow_plaintext && !is_this_machine(&url) => {
            reader.fault(
                "sink.url",
                "is beyond this machine and not encrypted: write https://host:4317, or set WEIR_AGENT_ALLOW_PLAINTEXT=true to accept that anybody on the way can read and change what is sent",
            );
        }
        "http" | "https" => {}
        other => reader.fault(
            "sink.url",
            format!("{other} is not a way to reach a sink: write https://host:4317"),
        ),
    }
    if url.host_str().is_none_or(str::is_empty) {
        reader.fault("sink.url", "names no host: write https://host:4317");
    }
    if !url.username().is_empty() || url.password().is_some() {
        reader.fault(
            "sink.url",
            "names a user, and a sink knows none: write https://host:4317",
        );
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        reader.fault(
            "sink.url",
            "has a path, and a sink has none: write https://host:4317",
        );
    }
    url
}

/// Whether nobody else is on the way.
pub(crate) fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Whom to trust and who to be.
pub(super) fn tls(reader: &mut Reader, sink_url: &Url) -> ClientSettings {
    let mut path = |name| -> Option<PathBuf> {
        let path = reader.path(name);
        (!path.as_os_str().is_empty()).then_some(path)
    };
    let (ca, cert, key) = (path("tls.ca"), path("tls.cert"), path("tls.key"));
    let set = [("tls.ca", &ca), ("tls.cert", &cert), ("tls.key", &key)];
    if sink_url.scheme() == "http"
        && let Some((name, _)) = set.iter().find(|(_, path)| path.is_some())
    {
        reader.fault(
            name,
            "is of no use with http://: write https:// in sink.url, or leave it out",
        );
    }
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (Some(_), None) => {
            reader.fault("tls.cert", "needs its key: set tls.key, too");
            None
        }
        (None, Some(_)) => {
            reader.fault("tls.key", "needs its certificate: set tls.cert, too");
            None
        }
        (None, None) => None,
    };
    ClientSettings {
        trust: ca.map_or(Trust::System, Trust::File),
        identity,
        setting: "WEIR_AGENT_TLS_CA",
    }
}

/// Opens the files that are read for every connection: a fault under the key of each that cannot be used now.
pub(super) fn open(reader: &mut Reader, tls: &ClientSettings) {
    if let Trust::File(ca) = &tls.trust
        && let Err(error) = check_cas(ca)
    {
        reader.fault("tls.ca", error.to_string());
    }
    let Some((cert, key)) = &tls.identity else {
        return;
    };
    let faults = match Identity::check(cert, key) {
        Ok(identity) => [identity.judge(cert, SystemTime::now()).err(), None],
        Err(faults) => [faults.cert, faults.key],
    };
    for (name, fault) in ["tls.cert", "tls.key"].into_iter().zip(faults) {
        if let Some(fault) = fault {
            reader.fault(name, fault.to_string());
        }
    }
}
