//! What the agent shows a sink of itself: a token, files of its own, or an identity that it asks for.

use std::path::Path;

use tonic::metadata::MetadataMap;
use url::Url;
use weir_process::config::Reader;
use weir_process::tls::{ClientSettings, Fingerprint, Trust};

use crate::identity::{Credential, Enrolment};

/// The token of every call.
pub(super) fn credential(reader: &mut Reader) -> Credential {
    let (token, file) = reader.secret("sink.token");
    let credential = Credential::new(token, file);
    if let Err(error) = credential.show(&mut MetadataMap::new()) {
        reader.fault("sink.token", error.to_string());
    }
    credential
}

/// The identity that is asked for, where there is to be one or is one already; `tls` then trusts the pinned CA.
pub(super) fn enrolment(
    reader: &mut Reader,
    (sink_url, data_dir): (&Url, &Path),
    tls: &mut ClientSettings,
) -> Option<Enrolment> {
    let (token, file) = reader.secret("enroll.token");
    let token = Credential::new(token, file);
    if let Err(error) = token.text() {
        reader.fault("enroll.token", error.to_string());
    }
    let print = reader.text("enroll.ca_fingerprint");
    let dir = reader.path("identity.dir");
    let dir = if dir.as_os_str().is_empty() {
        data_dir.join("identity")
    } else {
        dir
    };
    if !print.is_empty() {
        match Fingerprint::parse(&print) {
            Ok(_) if tls.trust != Trust::System => reader.fault(
                "enroll.ca_fingerprint",
                "is of no use beside tls.ca: keep one of them",
            ),
            Ok(print) => tls.trust = Trust::Fingerprint(print),
            Err(error) => reader.fault("enroll.ca_fingerprint", error),
        }
    }
    let https = sink_url.scheme() == "https";
    let asked = token != Credential::None;
    if (asked || !print.is_empty()) && !https {
        let name = if asked {
            "enroll.token"
        } else {
            "enroll.ca_fingerprint"
        };
        reader.fault(name, "needs TLS: write https:// in sink.url");
    }
    if asked && tls.identity.is_some() {
        reader.fault(
            "enroll.token",
            "is of no use beside tls.cert: keep one of them",
        );
    }
    let enrolment = Enrolment { dir, token };
    let wanted = asked || enrolment.is_there();
    (https && wanted && tls.identity.is_none()).then_some(enrolment)
}
