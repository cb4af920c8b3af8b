//! What the ports are encrypted with.

use std::path::PathBuf;

use weir_process::config::Reader;
use weir_process::tls::ServerFiles;

/// The certificate files, and the CA's key.
pub(super) fn read(reader: &mut Reader) -> (Option<ServerFiles>, Option<PathBuf>) {
    let mut path = |name| {
        let path = reader.path(name);
        (!path.as_os_str().is_empty()).then_some(path)
    };
    let (cert, key) = (path("tls.cert"), path("tls.key"));
    let (ca, ca_key) = (path("tls.ca"), path("tls.ca_key"));
    let files = match (cert, key) {
        (Some(cert), Some(key)) => Some(ServerFiles {
            cert,
            key,
            ca: ca.clone(),
        }),
        (Some(_), None) => {
            reader.fault("tls.cert", "needs its key: set tls.key, too");
            None
        }
        (None, Some(_)) => {
            reader.fault("tls.key", "needs its certificate: set tls.cert, too");
            None
        }
        (None, None) => {
            if ca.is_some() {
                reader.fault(
                    "tls.ca",
                    "is of no use without TLS: set tls.cert and tls.key, too",
                );
            }
            None
        }
    };
    if ca_key.is_some() && ca.is_none() {
        reader.fault("tls.ca_key", "needs its certificate: set tls.ca, too");
    }
    (files, ca_key)
}
