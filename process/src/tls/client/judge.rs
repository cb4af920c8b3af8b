//! Whether the server's certificate is to be trusted, and a witness of what it was.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::super::{Fingerprint, provider};

/// Who decides.
#[derive(Debug, Clone)]
pub(super) enum Judge {
    /// Known CAs; name and time count.
    Roots(Arc<WebPkiServerVerifier>),
    /// The CA with this fingerprint, out of what the server sends; name and time count.
    Pinned(Fingerprint),
    /// These certificates, or one that they signed; the name does not count.
    Exactly(Arc<Vec<CertificateDer<'static>>>),
}

impl Judge {
    pub(super) fn exactly(certificates: Vec<CertificateDer<'static>>) -> Self {
        Self::Exactly(Arc::new(certificates))
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self {
            Self::Roots(roots) => roots.verify_server_cert(leaf, others, name, ocsp, now),
            Self::Pinned(print) => {
                let pinned = others.iter().find(|one| Fingerprint::of(one) == *print);
                let pinned =
                    pinned.ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
                let roots = roots([pinned])?;
                let roots = WebPkiServerVerifier::builder_with_provider(roots, provider())
                    .build()
                    .map_err(|error| Error::General(error.to_string()))?;
                roots.verify_server_cert(leaf, others, name, ocsp, now)
            }
            Self::Exactly(known) => {
                if known.first() == Some(leaf) {
                    return Ok(ServerCertVerified::assertion());
                }
                let algorithms = provider().signature_verification_algorithms.all;
                let leaf = ParsedCertificate::try_from(leaf)?;
                let roots = roots(known.iter())?;
                verify_server_cert_signed_by_trust_anchor(&leaf, &roots, others, now, algorithms)?;
                Ok(ServerCertVerified::assertion())
            }
        }
    }
}

fn roots<'a>(
    certificates: impl IntoIterator<Item = &'a CertificateDer<'a>>,
) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone().into_owned())?;
    }
    Ok(Arc::new(roots))
}

/// Lets the judge decide and remembers what the server showed, for whoever has to explain a refusal.
#[derive(Debug)]
pub(super) struct Witness {
    judge: Judge,
    shown: Mutex<Vec<CertificateDer<'static>>>,
}

impl Witness {
    pub(super) fn new(judge: Judge) -> Self {
        Self {
            judge,
            shown: Mutex::default(),
        }
    }

    /// What the server showed, its own certificate first.
    pub(super) fn shown(&self) -> Vec<CertificateDer<'static>> {
        let shown = self.shown.lock();
        shown.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(leaf).chain(others);
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) =
            chain.map(|one| one.clone().into_owned()).collect();
        self.judge.judge(leaf, others, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
