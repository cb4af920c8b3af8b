//! A private CA and a server certificate that it signs, so that a first secure set-up is one command.
//!
//! | file | what it is |
//! |---|---|
//! | `ca.key` | the CA's key: who has it can be anybody; 0600 |
//! | `ca.crt` | the CA's certificate, good for ten years: what agents are given |
//! | `server.key` | the sink's key; 0600 |
//! | `server.crt` | the sink's certificate, good for a year, and the CA's after it |
//!
//! In: a directory, and names. Out: files, written whole and synced one after another. [`init`] never overwrites: it
//! completes what is missing, so that one that was killed is simply run again. [`renew`] replaces `server.crt` alone, in
//! one step, and keeps the key: there is no moment at which the two do not belong together. Keys are ECDSA P-256, which
//! every TLS of the last ten years can use.

mod names;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use weir_process::tls::{FileError, Fingerprint, Identity};

pub use names::{Names, local_names};

/// What the name of a CA begins with.
const CA_NAME: &str = "Weir CA ";
const DAY: Duration = Duration::from_secs(86_400);
/// How long the CA is good.
const CA_LIFETIME: Duration = Duration::from_secs(3652 * 86_400);
/// How long the server's certificate is good; some clients refuse more than 398 days.
const SERVER_LIFETIME: Duration = Duration::from_secs(397 * 86_400);

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// A file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which one.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// Everything is there already.
    #[error(
        "{0} has a CA and a server certificate already, and nothing is overwritten: renew the server's with `weir-sink certs renew-server`, or name another directory with --out"
    )]
    Complete(String),
    /// There is nothing to renew.
    #[error("{0} is not there: make it with `weir-sink certs init`")]
    Missing(String),
    /// What is there cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The CA is not one of ours.
    #[error(
        "{0} was not made by `weir-sink certs init`: have the sink's certificate signed where that CA is kept"
    )]
    Foreign(String),
    /// A name is none.
    #[error("{0:?} is neither a host name nor an IP address")]
    Name(String),
    /// The keys or certificates cannot be made.
    #[error("cannot make the certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// A directory with the four files.
#[derive(Debug, Clone)]
pub struct Certs {
    directory: PathBuf,
}

/// What was made.
#[derive(Debug, Clone)]
pub struct Made {
    /// The CA's fingerprint.
    pub ca: Fingerprint,
    /// The names in the server's certificate.
    pub names: Vec<String>,
    /// Its end.
    pub not_after: SystemTime,
    /// The files that were written.
    pub written: Vec<PathBuf>,
}

impl Certs {
    /// Those in this directory.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// The CA's certificate.
    pub fn ca(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    /// The CA's key.
    pub fn ca_key(&self) -> PathBuf {
        self.directory.join("ca.key")
    }

    /// The server's chain.
    pub fn server(&self) -> PathBuf {
        self.directory.join("server.crt")
    }

    /// The server's key.
    pub fn server_key(&self) -> PathBuf {
        self.directory.join("server.key")
    }

    /// Makes what is missing.
    ///
    /// # Errors
    /// Nothing is missing, or it cannot be made.
    pub fn init(&self, names: &Names) -> Result<Made, CertsError> {
        if self.server().exists() {
            return Err(CertsError::Complete(self.directory.display().to_string()));
        }
        fs::create_dir_all(&self.directory).map_err(|source| failed(&self.directory, source))?;
        let mut written = Vec::new();
        let ca_key = self.key(&self.ca_key(), &mut written)?;
        if !self.ca().exists() {
            let certificate = ca_params(&ca_name()?)?.self_signed(&ca_key)?;
            create(&self.ca(), certificate.pem().as_bytes(), 0o644)?;
            written.push(self.ca());
        }
        self.key(&self.server_key(), &mut written)?;
        let mut made = self.sign(names, |path, chain| create(path, chain, 0o644))?;
        written.append(&mut made.written);
        Ok(Made { written, ..made })
    }

    /// Signs the server's certificate again, for the names it has and these beside.
    ///
    /// # Errors
    /// There is none, or it cannot be made.
    pub fn renew(&self, more: &Names) -> Result<Made, CertsError> {
        for path in [self.ca_key(), self.ca(), self.server_key(), self.server()] {
            if !path.exists() {
                return Err(CertsError::Missing(path.display().to_string()));
            }
        }
        let before = Identity::read(&self.server(), &self.server_key())?;
        let names = Names::parse(&before.facts.names)?.and(more);
        self.sign(&names, replace)
    }

    /// The key in a file, which is made if it is not there.
    fn key(&self, path: &Path, written: &mut Vec<PathBuf>) -> Result<KeyPair, CertsError> {
        match fs::read_to_string(path) {
            Ok(text) => KeyPair::from_pem(&text).map_err(|_| {
                let why = "it is not a key in PEM: move it away, another will be made";
                CertsError::File(FileError::new("the key", path, why))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = KeyPair::generate()?;
                create(path, key.serialize_pem().as_bytes(), 0o600)?;
                written.push(path.to_path_buf());
                Ok(key)
            }
            Err(source) => Err(failed(path, source)),
        }
    }

    fn sign(
        &self,
        names: &Names,
        write: impl Fn(&Path, &[u8]) -> Result<(), CertsError>,
    ) -> Result<Made, CertsError> {
        // The two are held against each other before anything is signed.
        let ca = Identity::read(&self.ca(), &self.ca_key())?;
        let read =
            |path: PathBuf| fs::read_to_string(&path).map_err(|source| failed(&path, source));
        let ca_pem = read(self.ca())?;
        if !ca.facts.subject.starts_with(CA_NAME) {
            return Err(CertsError::Foreign(self.ca().display().to_string()));
        }
        let issuer = Issuer::new(
            ca_params(&ca.facts.subject)?,
            KeyPair::from_pem(&read(self.ca_key())?)?,
        );
        let key = KeyPair::from_pem(&read(self.server_key())?)?;
        let now = SystemTime::now();
        // The CA's own end comes first where it is near.
        let not_after = (now + SERVER_LIFETIME).min(ca.facts.not_after);
        let params = server_params(names, not_after)?;
        let certificate = params.signed_by(&key, &issuer)?;
        let chain = format!("{}{ca_pem}", certificate.pem());
        write(&self.server(), chain.as_bytes())?;
        Ok(Made {
            ca: Fingerprint::of(&ca.chain()[0]),
            names: names.shown(),
            not_after,
            written: vec![self.server()],
        })
    }
}

/// What signs in the name of a CA that `certs init` made, and the CA's certificate.
///
/// # Errors
/// The two files cannot be used, or are another's.
pub fn issuer(ca: &Path, key: &Path) -> Result<(Issuer<'static, KeyPair>, Vec<u8>), CertsError> {
    let own = Identity::read(ca, key)?;
    if !own.facts.subject.starts_with(CA_NAME) {
        return Err(CertsError::Foreign(ca.display().to_string()));
    }
    let text = fs::read_to_string(key).map_err(|source| failed(key, source))?;
    let issuer = Issuer::new(ca_params(&own.facts.subject)?, KeyPair::from_pem(&text)?);
    Ok((issuer, own.chain()[0].to_vec()))
}

fn ca_params(name: &str) -> Result<CertificateParams, CertsError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    lasts(&mut params, SystemTime::now() + CA_LIFETIME);
    Ok(params)
}

/// Another CA of the same machine must not have the same name.
fn ca_name() -> Result<String, CertsError> {
    Ok(format!("{CA_NAME}{:08x}", drawn()? >> 31))
}

/// A number from the system's random source, positive where it is read with a sign.
fn drawn() -> Result<u64, CertsError> {
    let source = Path::new(weir_process::random::SYSTEM);
    let id = weir_process::random::id().map_err(|error| failed(source, error))?;
    let half: [u8; 8] = std::array::from_fn(|place| id[place]);
    Ok(u64::from_be_bytes(half) >> 1)
}

fn server_params(names: &Names, not_after: SystemTime) -> Result<CertificateParams, CertsError> {
    let mut params = CertificateParams::new(Vec::new())?;
    // Another one each time: what is made from the key alone would be the same after a renewal.
    params.serial_number = Some(SerialNumber::from(drawn()?));
    params.subject_alt_names = names.entries()?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "weir-sink");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    lasts(&mut params, not_after);
    Ok(params)
}

/// From a day ago, as clocks differ.
fn lasts(params: &mut CertificateParams, until: SystemTime) {
    params.not_before = (SystemTime::now() - DAY).into();
    params.not_after = until.into();
}

/// A new file, whole and synced, or none.
fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CertsError> {
    let part = part(path);
    let making = || {
        write_synced(&part, bytes, mode)?;
        // Unlike a rename it does not overwrite.
        fs::hard_link(&part, path)?;
        fs::remove_file(&part)?;
        sync_directory(path)
    };
    making().map_err(|source| failed(path, source))
}

/// Another content for a file, in one step.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), CertsError> {
    let part = part(path);
    let replacing = || {
        write_synced(&part, bytes, 0o644)?;
        fs::rename(&part, path)?;
        sync_directory(path)
    };
    replacing().map_err(|source| failed(path, source))
}

fn part(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // What a killed run left.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

fn failed(path: &Path, source: io::Error) -> CertsError {
    CertsError::Write {
        path: path.display().to_string(),
        source,
    }
}

#[cfg(test)]
mod tests;
