//! The identity on disk: `identity.pem`, which holds the key and the certificates, and `pending.key` while there is no
//! certificate for a key yet. Both 0600.
//!
//! | file | written |
//! |---|---|
//! | `pending.key` | before anything is asked for: an answer that is lost is asked for again with the same key, which costs no second use of the token |
//! | `identity.pem` | whole, in one step: `# renew after SECONDS` (Unix), the key, its certificate, those above it |
//!
//! One file in place of two: whenever the program is killed there is the old identity or the new one, and never a key
//! without its certificate.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weir_fault::{Point, point};
use weir_process::secret::Secret;
use weir_process::tls::{CertificateDer, Facts, Key, certificate_pem, certificates_in};

const IDENTITY: &str = "identity.pem";
const PENDING: &str = "pending.key";
const RENEW_AFTER: &str = "# renew after ";

/// What is there.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) key: Key,
    /// Its own first.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) not_after: SystemTime,
    pub(super) renew_after: SystemTime,
}

/// A directory with the files.
#[derive(Debug, Clone)]
pub(super) struct Store {
    dir: PathBuf,
}

impl Store {
    pub(super) fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Where the identity is.
    pub(super) fn file(&self) -> PathBuf {
        self.dir.join(IDENTITY)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The identity, if there is one. What cannot be read is an error: it is not thrown away.
    pub(super) fn read(&self) -> io::Result<Option<Kept>> {
        let text = match fs::read_to_string(self.file()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => Secret::new(read?),
        };
        let damaged = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let key = Key::from_pem(&text).map_err(|_| damaged("it holds no key of ours"))?;
        let chain = certificates_in(text.expose());
        let facts = chain.first().and_then(|own| Facts::of(own));
        let facts = facts.ok_or_else(|| damaged("it holds no certificate"))?;
        let noted = text.expose().lines().find_map(|line| {
            let seconds = line.strip_prefix(RENEW_AFTER)?.trim().parse().ok()?;
            Some(UNIX_EPOCH + Duration::from_secs(seconds))
        });
        Ok(Some(Kept {
            key,
            chain,
            not_after: facts.not_after,
            renew_after: noted.unwrap_or(facts.not_after),
        }))
    }

    /// The key that a certificate is asked for: the one that was asked for before, or a new one.
    pub(super) fn pending(&self) -> io::Result<Key> {
        let path = self.dir.join(PENDING);
        if let Ok(text) = fs::read_to_string(&path)
            && let Ok(key) = Key::from_pem(&Secret::new(text))
        {
            return Ok(key);
        }
        let key = Key::generate().map_err(|_| io::Error::other("no key can be drawn"))?;
        self.write(PENDING, &key.pem())?;
        point(Point::IdentityKey);
        Ok(key)
    }

    /// Puts this in the place of what is there.
    pub(super) fn keep(
        &self,
        key: &Key,
        chain: &[Vec<u8>],
        renew_after: SystemTime,
    ) -> io::Result<()> {
        let seconds = renew_after.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut text = format!("{RENEW_AFTER}{}\n", seconds.as_secs());
        text.push_str(key.pem().expose());
        for certificate in chain {
            text.push_str(&certificate_pem(certificate));
        }
        self.write(IDENTITY, &Secret::new(text))?;
        point(Point::IdentityKept);
        // One that stays would only be used for the next.
        let _ = fs::remove_file(self.dir.join(PENDING));
        Ok(())
    }

    fn write(&self, name: &str, content: &Secret) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.dir)?;
        let part = self.dir.join(format!("{name}.part"));
        match fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)?;
        file.write_all(content.expose().as_bytes())?;
        point(Point::IdentityWritten);
        file.sync_all()?;
        fs::rename(&part, self.dir.join(name))?;
        File::open(&self.dir)?.sync_all()
    }
}
