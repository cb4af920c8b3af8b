//! What the ports are encrypted with.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use weir_process::config::Reader;
use weir_process::tls::{FileError, Identity, PairFaults, ServerFiles, check_cas};

use crate::certs::{self, CertsError};

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

/// Opens what a start opens: a fault under the key of each file that cannot be used.
pub(super) fn open(reader: &mut Reader, files: &ServerFiles, ca_key: Option<&Path>) {
    if let Err(faults) = Identity::check(&files.cert, &files.key) {
        blame(reader, ["tls.cert", "tls.key"], *faults);
    }
    match (&files.ca, ca_key) {
        (None, _) => {}
        (Some(ca), None) => {
            if let Err(error) = check_cas(ca) {
                reader.fault("tls.ca", error.to_string());
            }
        }
        (Some(ca), Some(key)) => match Identity::check(ca, key) {
            Err(faults) => blame(reader, ["tls.ca", "tls.ca_key"], *faults),
            Ok(_) => {
                if let Err(error) = certs::issuer(ca, key) {
                    let blamed = match &error {
                        CertsError::Foreign(_) => "tls.ca",
                        _ => "tls.ca_key",
                    };
                    reader.fault(blamed, error.to_string());
                } else if let Err(error) = check_cas(ca) {
                    reader.fault("tls.ca", error.to_string());
                }
            }
        },
    }
}

fn blame(reader: &mut Reader, names: [&'static str; 2], faults: PairFaults) {
    for (name, fault) in names.into_iter().zip([faults.cert, faults.key]) {
        if let Some(fault) = fault {
            reader.fault(name, fault.to_string());
        }
    }
}

/// What is served although clients refuse it: a sink whose certificate has ended can be asked on its own machine.
pub(crate) fn out_of_time(files: &ServerFiles) -> Option<FileError> {
    let identity = Identity::read(&files.cert, &files.key).ok()?;
    identity.judge(&files.cert, SystemTime::now()).err()
}
