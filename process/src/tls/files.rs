//! Certificates and keys out of PEM files.
//!
//! In: paths. Out: a chain and its key that belong together, or roots; or a [`FileError`] that names the file, what is
//! wrong with it and what to do. No error shows what is in a file.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};

use super::{Facts, provider};

/// No such file is larger: a chain has a few KiB, a bundle of all public CAs some hundred.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// A file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot use {what} {path}: {why}")]
pub struct FileError {
    /// What the file is for, as in `the server's key`.
    what: &'static str,
    /// Which one.
    path: String,
    /// What is wrong, and what to do.
    why: String,
}

impl FileError {
    /// Where `why` ends with what to do.
    pub fn new(what: &'static str, path: &Path, why: impl Into<String>) -> Self {
        Self {
            what,
            path: path.display().to_string(),
            why: why.into(),
        }
    }
}

/// What is wrong with a certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairFaults {
    /// With the certificate's file.
    pub cert: Option<FileError>,
    /// With the key's, or with the key where it is not the certificate's.
    pub key: Option<FileError>,
}

/// All certificates of a file, and what the first one says.
type Chain = (Vec<CertificateDer<'static>>, Facts);

/// A certificate chain and its key, that belong together.
#[derive(Debug, Clone)]
pub struct Identity {
    pub(super) certified: Arc<CertifiedKey>,
    /// What its first certificate says.
    pub facts: Facts,
    /// Whom the system lets read the key beside its owner and group: everybody.
    pub key_is_open: bool,
}

impl Identity {
    /// Reads both and holds them against each other. Whether it has expired is the caller's to judge.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn read(chain_file: &Path, key_file: &Path) -> Result<Self, FileError> {
        Self::check(chain_file, key_file).map_err(|faults| {
            let first = faults.cert.or(faults.key);
            first.expect("what cannot be used has a fault")
        })
    }

    /// The same, with all that is wrong.
    ///
    /// # Errors
    /// One of them cannot be used, or both.
    pub fn check(chain_file: &Path, key_file: &Path) -> Result<Self, Box<PairFaults>> {
        match (chain(chain_file), key(key_file)) {
            (Ok(chain), Ok(key)) => {
                Self::of((chain, chain_file), (key, key_file)).map_err(|error| {
                    Box::new(PairFaults {
                        cert: None,
                        key: Some(error),
                    })
                })
            }
            (chain, key) => Err(Box::new(PairFaults {
                cert: chain.err(),
                key: key.err(),
            })),
        }
    }

    fn of(
        ((chain, facts), chain_file): (Chain, &Path),
        (key, key_file): (PrivateKeyDer<'static>, &Path),
    ) -> Result<Self, FileError> {
        let certified =
            CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => FileError::new(
                    "the key",
                    key_file,
                    format!(
                        "it is not the key of the certificate in {}: give the two that were made together",
                        chain_file.display()
                    ),
                ),
                _ => FileError::new(
                    "the key",
                    key_file,
                    "its kind is not supported: use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 bits or more",
                ),
            })?;
        let mode = std::fs::metadata(key_file).map(|found| found.permissions().mode());
        Ok(Self {
            certified: Arc::new(certified),
            facts,
            key_is_open: mode.is_ok_and(|mode| mode & 0o007 != 0),
        })
    }

    /// The chain, its own certificate first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// Whether it is good at a time, or what to say where it is not.
    pub fn judge(&self, chain_file: &Path, now: SystemTime) -> Result<(), FileError> {
        let date = |time| humantime::format_rfc3339_seconds(time).to_string();
        let Facts {
            not_before,
            not_after,
            ..
        } = self.facts;
        let why = if now > not_after {
            format!("it expired on {}: renew it", date(not_after))
        } else if now < not_before {
            format!(
                "it is good from {} on, and this machine's clock says {}: set the clock",
                date(not_before),
                date(now)
            )
        } else {
            return Ok(());
        };
        Err(FileError::new("the certificate", chain_file, why))
    }
}

fn chain(path: &Path) -> Result<Chain, FileError> {
    const WHAT: &str = "the certificate";
    let chain = certificates(WHAT, path, &bytes(WHAT, path)?)?;
    let facts = chain.first().and_then(|leaf| Facts::of(leaf));
    let facts = facts.ok_or_else(|| {
        FileError::new(
            WHAT,
            path,
            "its first entry is not an X.509 certificate: write the certificate first, then those of its CAs",
        )
    })?;
    Ok((chain, facts))
}

/// Whether a file holds CAs.
///
/// # Errors
/// It cannot be used.
pub fn check_cas(path: &Path) -> Result<(), FileError> {
    roots(path).map(drop)
}

/// The CAs in a file.
pub(super) fn roots(path: &Path) -> Result<RootCertStore, FileError> {
    const WHAT: &str = "the CA file";
    let mut roots = RootCertStore::empty();
    for certificate in certificates(WHAT, path, &bytes(WHAT, path)?)? {
        roots.add(certificate).map_err(|_| {
            let why = "an entry in it is not an X.509 certificate: give the CA's file, as ca.crt of `weir-sink certs init`";
            FileError::new(WHAT, path, why)
        })?;
    }
    Ok(roots)
}

/// Everything in a file, within a bound.
pub(super) fn bytes(what: &'static str, path: &Path) -> Result<Vec<u8>, FileError> {
    let read = || -> io::Result<Vec<u8>> {
        let size = std::fs::metadata(path)?.len();
        if size > MAX_FILE_BYTES {
            return Err(io::Error::other("it is larger than any such file is"));
        }
        std::fs::read(path)
    };
    read().map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "no such file: check the path".to_owned(),
            io::ErrorKind::PermissionDenied => {
                "permission denied: let the user this program runs as read it".to_owned()
            }
            _ => format!("{error}: check what it is"),
        };
        FileError::new(what, path, remedy)
    })
}

/// All certificates of a file, in its order; one at least.
pub(super) fn certificates(
    what: &'static str,
    path: &Path,
    bytes: &[u8],
) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Err(_) => Err(FileError::new(
            what,
            path,
            "its PEM is damaged: copy it again, whole, with its BEGIN and END lines",
        )),
        Ok(_) if contains(bytes, "PRIVATE KEY-----") => Err(FileError::new(
            what,
            path,
            "it holds a key and no certificate: are the two exchanged?",
        )),
        Ok(_) => Err(not_pem(what, path, bytes, "x509")),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    const WHAT: &str = "the key";
    let bytes = &*bytes(WHAT, path)?;
    if let Ok(key) = PrivateKeyDer::from_pem_slice(bytes) {
        return Ok(key);
    }
    if contains(bytes, "ENCRYPTED") {
        let why = "it is protected by a passphrase: write it without one (`openssl pkey -in FILE -out NEW`)";
        return Err(FileError::new(WHAT, path, why));
    }
    if contains(bytes, "BEGIN CERTIFICATE") {
        let why = "it holds a certificate and no key: are the two exchanged?";
        return Err(FileError::new(WHAT, path, why));
    }
    Err(not_pem(WHAT, path, bytes, "pkey"))
}

fn not_pem(what: &'static str, path: &Path, bytes: &[u8], tool: &str) -> FileError {
    let why = match bytes.first() {
        None => "it is empty: write PEM into it".to_owned(),
        Some(0x30) => format!(
            "it is DER and not PEM: convert it (`openssl {tool} -inform der -in FILE -out NEW`)"
        ),
        Some(_) => {
            "it is not PEM: write a file that begins with a line as -----BEGIN ...-----".to_owned()
        }
    };
    FileError::new(what, path, why)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}
