//! What the ports are encrypted with, and that nothing goes beyond this machine in the clear by accident.

use std::net::SocketAddr;
use std::path::PathBuf;

use weir_process::config::Reader;
use weir_process::tls::ServerFiles;

/// The certificate files, and the CA's key; `listen` are the addresses of `grpc.listen` and `http.listen`.
pub(super) fn read(
    reader: &mut Reader,
    listen: [SocketAddr; 2],
) -> (Option<ServerFiles>, Option<PathBuf>) {
    let mut path = |name| {
        let path = reader.path(name);
        (!path.as_os_str().is_empty()).then_some(path)
    };
    let (cert, key) = (path("tls.cert"), path("tls.key"));
    let (ca, ca_key) = (path("tls.ca"), path("tls.ca_key"));
    let allow_plaintext = reader.bool("allow_plaintext");
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
            plaintext(reader, listen, allow_plaintext);
            None
        }
    };
    if ca_key.is_some() && ca.is_none() {
        reader.fault("tls.ca_key", "needs its certificate: set tls.ca, too");
    }
    (files, ca_key)
}

fn plaintext(reader: &mut Reader, listen: [SocketAddr; 2], allowed: bool) {
    for (name, address) in ["grpc.listen", "http.listen"].into_iter().zip(listen) {
        if !address.ip().is_loopback() && !allowed {
            reader.fault(
                name,
                format!(
                    "{address} is beyond loopback and there is no TLS: set WEIR_SINK_TLS_CERT and WEIR_SINK_TLS_KEY (`weir-sink certs init` makes both), or set WEIR_SINK_ALLOW_PLAINTEXT=true to accept that anybody on the way can read and change what is sent"
                ),
            );
        }
    }
}
