//! The CA that agents' certificates are signed with.
//!
//! In: its certificate and key, and the requests of agents. Out: certificates of agents, good for `enroll.cert_lifetime`.
//! What a request says of names is not looked at: who it is for is decided before. The name stands in the certificate
//! as the URI `weir://TENANT/AGENT`, for people; the sink goes by the fingerprint that the catalog has.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
    SignatureAlgorithm,
};
use url::Url;
use weir_process::random;
use weir_process::tls::{Fingerprint, requested};

use crate::certs::{CertsError, issuer};

/// How far an agent's clock may be behind.
const BACKDATED: Duration = Duration::from_secs(86_400);

/// See the module.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Vec<u8>,
}

/// A public key on P-256.
struct PublicKey(Vec<u8>);

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// A certificate of an agent.
pub(super) struct Signed {
    /// The agent's own first, then the CA's.
    pub(super) chain: Vec<Vec<u8>>,
    pub(super) fingerprint: String,
    pub(super) public_key: Vec<u8>,
    pub(super) not_after_ns: i64,
}

/// Why a request is not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificate request cannot be used: {0}")]
pub struct RequestError(String);

impl Authority {
    /// The CA that `weir-sink certs init` made, and its key.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn open(certificate: &Path, key: &Path) -> Result<Self, CertsError> {
        let (issuer, certificate) = issuer(certificate, key)?;
        Ok(Self {
            issuer,
            certificate,
        })
    }

    /// Signs what was asked for, for this agent.
    pub(super) fn sign(
        &self,
        (tenant, agent): (&str, &str),
        request: &[u8],
        (now_ns, lifetime): (i64, Duration),
    ) -> Result<Signed, RequestError> {
        // It was signed with its key: who asks has that.
        let key = requested(request).map(PublicKey);
        let key = key.ok_or_else(|| {
            RequestError("it must be PKCS #10 in DER, of a key on P-256, signed with it".to_owned())
        })?;
        let now = UNIX_EPOCH + Duration::from_nanos(u64::try_from(now_ns).unwrap_or(0));
        let not_after = now + lifetime;
        let params = params(tenant, agent, now - BACKDATED, not_after)?;
        let signed = params.signed_by(&key, &self.issuer);
        let signed = signed.map_err(|error| RequestError(error.to_string()))?;
        let der = signed.der().to_vec();
        Ok(Signed {
            fingerprint: Fingerprint::of(&der).to_string(),
            public_key: key.0,
            chain: vec![der, self.certificate.clone()],
            not_after_ns: ns(not_after),
        })
    }
}

fn params(
    tenant: &str,
    agent: &str,
    not_before: SystemTime,
    not_after: SystemTime,
) -> Result<CertificateParams, RequestError> {
    let failed = |what: &str| RequestError(what.to_owned());
    let mut uri = Url::parse(&format!("weir://{tenant}/")).map_err(|_| failed("tenant"))?;
    let mut path = uri.path_segments_mut().map_err(|()| failed("tenant"))?;
    path.push(agent);
    drop(path);
    let mut serial = random::secret::<16>().map_err(|_| failed("no serial number can be drawn"))?;
    // Positive, and as long as it looks.
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    // Longer ones are not allowed there; the URI has all of it.
    let short: String = agent.chars().take(60).collect();
    name.push(DnType::CommonName, short);
    params.distinguished_name = name;
    let uri = uri.as_str().try_into().map_err(|_| failed("agent"))?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = not_before.into();
    params.not_after = not_after.into();
    Ok(params)
}

fn ns(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
