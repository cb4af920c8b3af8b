//! What went wrong in a handshake, in an operator's words: what was found, and what to do.
//!
//! In: rustls's errors, wherever in a chain of errors they stand. Out: one sentence, lower case, without a full stop.

use std::io;
use std::time::SystemTime;

use rustls::{
    AlertDescription as Alert, CertificateError as Certificate, Error, InvalidMessage,
    PeerIncompatible,
};

use super::Facts;

/// What a client knows beside the error.
pub(super) struct Told<'a> {
    /// Whom it wanted to talk to.
    pub(super) host: &'a str,
    /// Whom it trusts, as in `the CAs in /etc/weir/ca.crt`.
    pub(super) trust: &'a str,
    /// The setting by which another CA is trusted.
    pub(super) setting: &'a str,
    /// What the server's certificate says, where one came.
    pub(super) shown: Option<&'a Facts>,
}

/// rustls's own error inside one of the system's kind.
pub(super) fn cause(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// The same in the text of an error, where what was between has kept no more of it.
pub fn in_text(text: &str) -> Option<String> {
    const SAID: &str = "received fatal alert: ";
    let said = &text[text.find(SAID)? + SAID.len()..];
    let end = said.find(|letter: char| !letter.is_ascii_alphanumeric());
    let name = &said[..end.unwrap_or(said.len())];
    let known = (0..=u8::MAX).map(Alert::from);
    let alert = known
        .into_iter()
        .find(|alert| format!("{alert:?}") == name)?;
    Some(of_alert(alert))
}

/// For a client.
pub(super) fn of_server(error: &io::Error, told: &Told<'_>) -> String {
    let host = told.host;
    match cause(error) {
        Some(Error::InvalidCertificate(certificate)) => of_certificate(certificate, told),
        Some(Error::AlertReceived(alert)) => of_alert(*alert),
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            format!(
                "what listens at {host} speaks no TLS: it is plaintext, write http:// or turn TLS on there"
            )
        }
        Some(Error::NoApplicationProtocol) => wrong_port(),
        Some(Error::PeerIncompatible(why)) => incompatible(why),
        Some(other) => format!("the TLS handshake failed: {other}"),
        None if is_end(error) => format!(
            "{host} closed the connection during the TLS handshake: does a plaintext server listen there, or a proxy between?"
        ),
        None => error.to_string(),
    }
}

/// For a server: what its client did.
pub(super) fn of_client(error: &io::Error) -> String {
    match cause(error) {
        // The last: a CA of the same name and another key.
        Some(Error::AlertReceived(
            Alert::UnknownCA | Alert::BadCertificate | Alert::DecryptError,
        )) => "it does not trust this certificate: give it this sink's CA file".to_owned(),
        Some(Error::AlertReceived(Alert::CertificateExpired)) => {
            "it takes this certificate for expired: renew it, or set the client's clock".to_owned()
        }
        Some(Error::AlertReceived(alert)) => format!("it ended the handshake: {alert:?}"),
        Some(Error::InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature)) => {
            "its certificate is not signed by the CA in tls.ca".to_owned()
        }
        Some(Error::InvalidCertificate(
            Certificate::Expired | Certificate::ExpiredContext { .. },
        )) => "its certificate has expired".to_owned(),
        Some(Error::InvalidCertificate(
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. },
        )) => "its certificate is not valid yet: is this machine's clock set?".to_owned(),
        Some(Error::InvalidCertificate(other)) => {
            format!("its certificate cannot be used: {other}")
        }
        Some(Error::PeerIncompatible(why)) => incompatible(why),
        Some(Error::NoApplicationProtocol) => {
            "it wants another protocol: gRPC and HTTP have a port each".to_owned()
        }
        Some(other) => other.to_string(),
        None if is_end(error) => "it closed the connection".to_owned(),
        None => error.to_string(),
    }
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
    )
}

fn wrong_port() -> String {
    "what listens there speaks TLS and not what is wanted: is this the right port? gRPC and HTTP have one each".to_owned()
}

fn incompatible(why: &PeerIncompatible) -> String {
    match why {
        PeerIncompatible::NoCipherSuitesInCommon
        | PeerIncompatible::NoKxGroupsInCommon
        | PeerIncompatible::NoSignatureSchemesInCommon => {
            format!("the two sides have no cryptography in common: {why:?}")
        }
        _ => format!("the other side offers no TLS 1.2 or 1.3: {why:?}"),
    }
}

fn of_alert(alert: Alert) -> String {
    match alert {
        Alert::CertificateRequired => {
            "the server asks for a client certificate: set tls.cert and tls.key".to_owned()
        }
        Alert::UnknownCA => {
            "the server does not know the CA of this client's certificate: use one that was made for this server"
                .to_owned()
        }
        Alert::CertificateExpired => {
            "the server takes this client's certificate for expired: replace it, or set the clocks".to_owned()
        }
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateUnknown
        | Alert::AccessDenied
        | Alert::DecryptError => {
            format!("the server refuses this client's certificate: {alert:?}")
        }
        Alert::ProtocolVersion => "the server offers no TLS 1.2 or 1.3".to_owned(),
        Alert::NoApplicationProtocol => wrong_port(),
        other => format!("the server ended the TLS connection: {other:?}"),
    }
}

fn of_certificate(error: &Certificate, told: &Told<'_>) -> String {
    let Told {
        host,
        trust,
        setting,
        shown,
    } = told;
    let issuer = shown.map_or_else(
        || "nobody known".to_owned(),
        |facts| format!("{:?}", facts.issuer),
    );
    let date = |time| humantime::format_rfc3339_seconds(time).to_string();
    let now = date(SystemTime::now());
    match error {
        Certificate::UnknownIssuer => format!(
            "the certificate of {host} was issued by {issuer}, which is none of {trust}: set {setting} to the file of that CA"
        ),
        Certificate::BadSignature => format!(
            "the certificate of {host} was issued by another {issuer} than that of {trust}: set {setting} to the file of the right CA"
        ),
        Certificate::Expired | Certificate::ExpiredContext { .. } => {
            let since = shown.map_or_else(String::new, |facts| {
                format!(" on {}", date(facts.not_after))
            });
            format!(
                "the certificate of {host} expired{since}: renew it there (`weir-sink certs renew-server`), or set this machine's clock, which says {now}"
            )
        }
        Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
            let from = shown.map_or_else(String::new, |facts| {
                format!(" from {} on", date(facts.not_before))
            });
            format!(
                "the certificate of {host} is good{from}, and this machine's clock says {now}: set the clock"
            )
        }
        Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
            let names = shown.map_or_else(String::new, |facts| facts.names.join(", "));
            let names = if names.is_empty() {
                "no name at all".to_owned()
            } else {
                names
            };
            format!(
                "the certificate there is not for {host} but for {names}: connect by one of these, or make one that names {host} (`weir-sink certs renew-server --name {host}`)"
            )
        }
        Certificate::UnsupportedSignatureAlgorithmContext { .. }
        | Certificate::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => format!(
            "the certificate of {host} is signed in a way that is not supported any more: make a new one"
        ),
        Certificate::Other(_) => format!(
            "the certificate of {host} cannot be used: {error}; a CA's own certificate does not serve, make one that it signs"
        ),
        other => format!("the certificate of {host} cannot be used: {other}"),
    }
}
