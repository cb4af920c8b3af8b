//! A key of one's own: made here, and never sent. What is sent is a request for a certificate (PKCS #10), signed by it.
//!
//! In: chance. Out: a key of ECDSA P-256, its PEM (PKCS #8) to be kept, a certificate request, signatures. The request
//! is written by hand: every length in it but the signature's is fixed, and a writer of certificates costs the agent a
//! tenth of its size.
//!
//! ```text
//! CertificationRequest ::= SEQUENCE { info, ecdsa-with-SHA256, BIT STRING signature of info }
//! info ::= SEQUENCE { INTEGER 0, Name (empty: the signer says who one is), SubjectPublicKeyInfo, [0] (no attributes) }
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::secret::Secret;

/// What stands before the 65 bytes of a public key on P-256.
const PUBLIC_KEY_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// ecdsa-with-SHA256.
const ALGORITHM: [u8; 12] = [
    0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02,
];
const LINE: usize = 64;

/// A key that cannot be made or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no ECDSA P-256 key in PEM (PKCS #8)")]
pub struct KeyError;

/// See the module.
pub struct Key {
    pair: EcdsaKeyPair,
    pkcs8: Vec<u8>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Key(***)")
    }
}

impl Key {
    /// A new one.
    ///
    /// # Errors
    /// The system gives no chance.
    pub fn generate() -> Result<Self, KeyError> {
        let chance = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &chance);
        Self::of(made.map_err(|_| KeyError)?.as_ref().to_vec())
    }

    /// The first key in a PEM file's text.
    ///
    /// # Errors
    /// It is another kind of key, or none.
    pub fn from_pem(text: &Secret) -> Result<Self, KeyError> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(text.expose().as_bytes());
        Self::of(key.map_err(|_| KeyError)?.secret_pkcs8_der().to_vec())
    }

    fn of(pkcs8: Vec<u8>) -> Result<Self, KeyError> {
        let kind = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(kind, &pkcs8, &SystemRandom::new());
        let pair = pair.map_err(|_| KeyError)?;
        Ok(Self { pair, pkcs8 })
    }

    /// As it is kept.
    pub fn pem(&self) -> Secret {
        Secret::new(pem("PRIVATE KEY", &self.pkcs8))
    }

    /// The point on the curve, uncompressed: 65 bytes.
    pub fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// A request for a certificate, in DER.
    ///
    /// # Errors
    /// The system gives no chance.
    pub fn request(&self) -> Result<Vec<u8>, KeyError> {
        let content = [
            &[0x02, 0x01, 0x00, 0x30, 0x00],
            &PUBLIC_KEY_HEAD[..],
            self.public(),
            &[0xa0, 0x00],
        ];
        let info = der(0x30, &content.concat());
        let signature = [&[0][..], &self.sign(&info)?].concat();
        let all = [&info[..], &ALGORITHM, &der(0x03, &signature)].concat();
        Ok(der(0x30, &all))
    }

    /// A signature (ECDSA with SHA-256, in DER) of these bytes.
    ///
    /// # Errors
    /// The system gives no chance.
    pub fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signed = self.pair.sign(&SystemRandom::new(), bytes);
        Ok(signed.map_err(|_| KeyError)?.as_ref().to_vec())
    }
}

/// The public key that a request (PKCS #10, DER) is for, if it is one on P-256 and was signed with that key. Names and
/// wishes in it are passed over.
pub fn requested(request: &[u8]) -> Option<Vec<u8>> {
    let (_, request, after) = element(request, 0x30)?;
    let (info, content, rest) = element(request, 0x30)?;
    let rest = rest.strip_prefix(&ALGORITHM)?;
    let (_, signature, behind) = element(rest, 0x03)?;
    let (_, _, content) = element(content, 0x02)?;
    let (_, _, content) = element(content, 0x30)?;
    let (key, _, _) = element(content, 0x30)?;
    let public = key.strip_prefix(&PUBLIC_KEY_HEAD)?;
    let whole = after.is_empty() && behind.is_empty();
    let signed = verifies(public, info, signature.strip_prefix(&[0])?);
    (whole && signed).then(|| public.to_vec())
}

/// The first element, which must have this tag: all of it, what is in it, what follows.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8], &[u8])> {
    let (found, length) = (*bytes.first()?, *bytes.get(1)?);
    let (head, length) = match length {
        0..=0x7f => (2, usize::from(length)),
        0x81 => (3, usize::from(*bytes.get(2)?)),
        0x82 => (
            4,
            usize::from(*bytes.get(2)?) << 8 | usize::from(*bytes.get(3)?),
        ),
        _ => return None,
    };
    let (whole, rest) = bytes.split_at_checked(head + length)?;
    (found == tag).then(|| (whole, &whole[head..], rest))
}

/// Whether this signature of these bytes was made with the key of this point.
pub fn verifies(public: &[u8], bytes: &[u8], signature: &[u8]) -> bool {
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public);
    public.verify(bytes, signature).is_ok()
}

/// A certificate as PEM.
pub fn certificate_pem(der: &[u8]) -> String {
    pem("CERTIFICATE", der)
}

/// The certificates in a PEM file's text, in its order; what else it holds is passed over.
pub fn certificates_in(text: &str) -> Vec<CertificateDer<'static>> {
    let found = CertificateDer::pem_slice_iter(text.as_bytes());
    found.filter_map(Result::ok).collect()
}

fn pem(what: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {what}-----\n");
    let encoded = STANDARD.encode(der);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!("-----END {what}-----\n"));
    text
}

/// One element of DER; of less than 256 bytes.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).expect("nothing written here is longer");
    let head = if length < 0x80 {
        vec![tag, length]
    } else {
        vec![tag, 0x81, length]
    };
    [&head[..], content].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Red when a length or an algorithm in the request is wrong, or the signature is of something else.
    #[test]
    fn a_request_is_one_that_others_can_read_and_verify() {
        let key = Key::generate().unwrap();
        let request = key.request().unwrap();
        assert_eq!(requested(&request).unwrap(), key.public());
        for at in 0..request.len() {
            let mut changed = request.clone();
            changed[at] ^= 1;
            assert_eq!(requested(&changed), None, "byte {at} counts");
            assert_eq!(requested(&request[..at]), None, "{at} bytes are not all");
        }
        let more = [&request[..], &[0]].concat();
        assert_eq!(requested(&more), None);
        // One that others make.
        let theirs = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let made = params.serialize_request(&theirs).unwrap();
        assert_eq!(requested(made.der()).unwrap(), theirs.public_key_raw());
    }

    /// Red when another key's signature, or one of other bytes, is taken.
    #[test]
    fn a_signature_is_of_these_bytes_by_this_key() {
        let (key, other) = (Key::generate().unwrap(), Key::generate().unwrap());
        let signature = key.sign(b"bytes").unwrap();
        assert!(verifies(key.public(), b"bytes", &signature));
        assert!(!verifies(key.public(), b"other", &signature));
        assert!(!verifies(other.public(), b"bytes", &signature));
        assert!(!verifies(b"", b"bytes", &signature));
    }

    #[test]
    fn a_key_comes_back_from_its_pem_and_shows_nothing() {
        let key = Key::generate().unwrap();
        let pem = key.pem();
        let text = pem.expose();
        assert!(text.starts_with("-----BEGIN PRIVATE KEY-----\n"), "{text}");
        assert!(text.lines().all(|line| line.len() <= LINE));
        let again = Key::from_pem(&pem).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(format!("{key:?} {pem:?}"), "Key(***) ***");
        assert_eq!(Key::from_pem(&Secret::new("x")).unwrap_err(), KeyError);
    }
}
