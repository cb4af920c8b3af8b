//! The connecting side: whom it trusts, and who it says it is.
//!
//! In: [`ClientSettings`]. Out: an encrypted connection, or a [`ConnectError`] in words. The files are looked at for
//! every connection, so that what was renewed is used by the next one.

mod judge;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::files::{self, FileError, Identity};
use super::server::VERSIONS;
use super::words::{self, Told};
use super::{Facts, Fingerprint, provider};
use judge::{Judge, Witness};

/// Whom a client trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The CAs in a file.
    File(PathBuf),
    /// The CA with this fingerprint, which the server sends along.
    Fingerprint(Fingerprint),
    /// Whom this system trusts.
    System,
    /// The very certificate in a file, or one of whom it was issued by, whatever name it is for: to find a program on
    /// this machine by the file that it serves.
    Exactly(PathBuf),
}

/// What a client connects with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSettings {
    /// Whom it trusts.
    pub trust: Trust,
    /// Its own certificate and key, where it has them.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// By which setting another CA is trusted, for errors.
    pub setting: &'static str,
}

/// The connecting side.
#[derive(Debug)]
pub struct Client {
    settings: ClientSettings,
    /// What the files came to when they were last read, and what they held.
    read: Mutex<Option<(Fingerprint, Arc<Ready>)>>,
}

#[derive(Debug)]
struct Ready {
    judge: Judge,
    identity: Option<Identity>,
}

/// No connection came about.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct ConnectError {
    /// What went wrong and what to do.
    pub text: String,
    /// The certificates that the server showed, its own first.
    pub shown: Vec<CertificateDer<'static>>,
}

impl From<FileError> for ConnectError {
    fn from(error: FileError) -> Self {
        Self {
            text: error.to_string(),
            shown: Vec::new(),
        }
    }
}

/// What a connection is encrypted with, and by whose certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encryption {
    /// `TLS 1.2` or `TLS 1.3`.
    pub version: &'static str,
    /// What the server's certificate says.
    pub server: Option<Facts>,
}

impl Encryption {
    /// That of a connection whose handshake is done.
    pub fn of(connection: &ClientConnection) -> Self {
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
            _ => "TLS 1.3",
        };
        let chain = connection.peer_certificates();
        let server = chain.and_then(|chain| Facts::of(chain.first()?));
        Self { version, server }
    }
}

impl Client {
    /// Nothing is read before the first connection.
    pub fn new(settings: ClientSettings) -> Self {
        Self {
            settings,
            read: Mutex::default(),
        }
    }

    /// What it connects with.
    pub fn settings(&self) -> &ClientSettings {
        &self.settings
    }

    /// What its own certificate says, where it has one.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn identity(&self) -> Result<Option<Facts>, FileError> {
        let ready = self.ready()?;
        Ok(ready.identity.as_ref().map(|own| own.facts.clone()))
    }

    /// Makes the handshake over `wire` with `host` (a name or an address), for the protocol `alpn`.
    ///
    /// # Errors
    /// A file cannot be used, or the handshake fails.
    pub async fn connect<W: AsyncRead + AsyncWrite + Unpin>(
        &self,
        wire: W,
        host: &str,
        alpn: &[u8],
    ) -> Result<TlsStream<W>, ConnectError> {
        let ready = self.ready()?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| ConnectError {
            text: format!("{host} is neither a host name nor an address"),
            shown: Vec::new(),
        })?;
        let (config, witness) = self.config(&ready, alpn)?;
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, wire);
        connecting.await.map_err(|error| {
            let shown = witness.shown();
            let facts = shown.first().and_then(|leaf| Facts::of(leaf));
            let told = Told {
                host,
                trust: &self.trust(),
                setting: self.settings.setting,
                shown: facts.as_ref(),
            };
            ConnectError {
                text: words::of_server(&error, &told),
                shown,
            }
        })
    }

    fn config(
        &self,
        ready: &Ready,
        alpn: &[u8],
    ) -> Result<(ClientConfig, Arc<Witness>), FileError> {
        let witness = Arc::new(Witness::new(ready.judge.clone()));
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .expect("the provider has both versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::<Witness>::clone(&witness));
        let mut config = match &ready.identity {
            None => builder.with_no_client_auth(),
            Some(own) => {
                if let Some((cert, _)) = &self.settings.identity {
                    // The server would end the handshake, and say less.
                    own.judge(cert, SystemTime::now())?;
                }
                builder.with_client_cert_resolver(Arc::new(Own(Arc::clone(&own.certified))))
            }
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        config.resumption = Resumption::disabled();
        Ok((config, witness))
    }

    /// Whom it trusts, in words.
    fn trust(&self) -> String {
        match &self.settings.trust {
            Trust::File(path) => format!("the CAs in {}", path.display()),
            Trust::Fingerprint(print) => format!("the one CA with the fingerprint {print}"),
            Trust::System => "those this system trusts".to_owned(),
            Trust::Exactly(path) => format!("those in {}", path.display()),
        }
    }

    fn ready(&self) -> Result<Arc<Ready>, FileError> {
        let content = self.content()?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, ready)) = &*read
            && *before == content
        {
            return Ok(Arc::clone(ready));
        }
        let identity = match &self.settings.identity {
            Some((cert, key)) => Some(Identity::read(cert, key)?),
            None => None,
        };
        let ready = Arc::new(Ready {
            judge: self.judge()?,
            identity,
        });
        *read = Some((content, Arc::clone(&ready)));
        Ok(ready)
    }

    /// What is in the files now.
    fn content(&self) -> Result<Fingerprint, FileError> {
        let mut all = Vec::new();
        let mut add = |what, path: &Path| -> Result<(), FileError> {
            all.extend_from_slice(&Fingerprint::of(&files::bytes(what, path)?).0);
            Ok(())
        };
        if let Trust::File(path) | Trust::Exactly(path) = &self.settings.trust {
            add("the CA file", path)?;
        }
        if let Some((cert, key)) = &self.settings.identity {
            add("the certificate", cert)?;
            add("the key", key)?;
        }
        Ok(Fingerprint::of(&all))
    }

    fn judge(&self) -> Result<Judge, FileError> {
        Ok(match &self.settings.trust {
            Trust::File(path) => by_roots(files::roots(path)?).map_err(|error| {
                FileError::new("the CA file", path, format!("{error}: give the CA's file"))
            })?,
            Trust::Fingerprint(print) => Judge::Pinned(*print),
            Trust::Exactly(path) => {
                let bytes = files::bytes("the certificate", path)?;
                Judge::exactly(files::certificates("the certificate", path, &bytes)?)
            }
            Trust::System => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                by_roots(roots).map_err(|_| {
                    let why = format!(
                        "this system has no CAs: set {}, or install its package of CA certificates",
                        self.settings.setting
                    );
                    FileError::new("the system's CAs", Path::new("(none found)"), why)
                })?
            }
        })
    }
}

/// Trusts these.
fn by_roots(roots: RootCertStore) -> Result<Judge, String> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map(Judge::Roots)
        .map_err(|error| error.to_string())
}

/// This client's own certificate, whichever CAs the server names: it says better than we why it does not like it.
#[derive(Debug)]
struct Own(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for Own {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
