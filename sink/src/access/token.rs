//! Tokens: how they are made, written and known again.
//!
//! | text | who shows it |
//! |---|---|
//! | `weir_ROLE_ID_SECRET` | whoever it was made for; ROLE is `agent`, `reader`, `operator` or `admin` |
//! | `weir_enroll_ID_SECRET` | an agent, once, to get a certificate |
//! | `weir_local_SECRET` | programs that can read the sink's data directory |
//!
//! ID is 6 random bytes and SECRET 32, both in lower hex. The catalog has the id, and BLAKE3 of the secret under a
//! random key of the token's own: 256 random bits cannot be guessed, so no slow hash is needed. Hashes are compared
//! in constant time. The text is shown once, when it is made.

use std::io;
use std::sync::Arc;

use weir_process::random;
use weir_process::secret::Secret;

use crate::catalog::{EnrollToken, Token};
use crate::model::Role;

/// What every token begins with, so that scanners of repositories and logs find it.
const PREFIX: &str = "weir_";
const ID_DIGITS: usize = 12;
const SECRET_DIGITS: usize = 64;
const LOCAL: &str = "local";
const ENROLL: &str = "enroll";

/// What a token is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What it allows.
    pub role: Role,
    /// Whose data.
    pub tenant: Arc<str>,
    /// What it is for; of an agent's token the names that may use it.
    pub name: Arc<str>,
    /// When it ends by itself, by the sink's wall clock.
    pub expires_at_ns: Option<i64>,
}

/// A token in parts, as somebody showed it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown<'a> {
    /// One of the catalog.
    Made {
        role: Role,
        id: &'a str,
        secret: Digits<'a>,
    },
    /// One that becomes a certificate.
    Enroll { id: &'a str, secret: Digits<'a> },
    /// The one in the data directory.
    Local(Digits<'a>),
}

/// Digits of a secret, which `Debug` does not show.
#[derive(PartialEq, Eq)]
pub(super) struct Digits<'a>(&'a str);

impl std::fmt::Debug for Digits<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("***")
    }
}

/// Makes a token: what the catalog keeps, and the text that is shown once.
///
/// # Errors
/// When the system's source of chance cannot be read.
pub fn make(wanted: &Wanted, now_ns: i64) -> io::Result<(Token, Secret)> {
    let id = hex(&random::secret::<6>()?);
    let secret = hex(&random::secret::<32>()?);
    let key = random::secret()?;
    let token = Token {
        role: wanted.role,
        tenant: Arc::clone(&wanted.tenant),
        name: Arc::clone(&wanted.name),
        hash: *blake3::keyed_hash(&key, secret.as_bytes()).as_bytes(),
        key,
        created_at_ns: now_ns,
        expires_at_ns: wanted.expires_at_ns,
        revoked_at_ns: None,
        id,
    };
    let text = format!("{PREFIX}{}_{}_{secret}", token.role.name(), token.id);
    Ok((token, Secret::new(text)))
}

/// What a token that becomes certificates is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedEnroll {
    /// Whose agents.
    pub tenant: Arc<str>,
    /// The names that may use it.
    pub pattern: Arc<str>,
    /// How often.
    pub uses: u64,
    /// When it ends by itself, by the sink's wall clock.
    pub expires_at_ns: Option<i64>,
}

/// Makes a token that becomes certificates: what the catalog keeps, and the text that is shown once.
///
/// # Errors
/// When the system's source of chance cannot be read.
pub fn make_enroll(wanted: &WantedEnroll, now_ns: i64) -> io::Result<(EnrollToken, Secret)> {
    let id = hex(&random::secret::<6>()?);
    let secret = hex(&random::secret::<32>()?);
    let key = random::secret()?;
    let text = format!("{PREFIX}{ENROLL}_{id}_{secret}");
    let token = EnrollToken {
        tenant: Arc::clone(&wanted.tenant),
        pattern: Arc::clone(&wanted.pattern),
        hash: *blake3::keyed_hash(&key, secret.as_bytes()).as_bytes(),
        key,
        uses: wanted.uses,
        used: 0,
        created_at_ns: now_ns,
        expires_at_ns: wanted.expires_at_ns,
        revoked_at_ns: None,
        id,
    };
    Ok((token, Secret::new(text)))
}

/// Makes the text of a local token.
///
/// # Errors
/// When the system's source of chance cannot be read.
pub fn make_local() -> io::Result<Secret> {
    let secret = hex(&random::secret::<32>()?);
    Ok(Secret::new(format!("{PREFIX}{LOCAL}_{secret}")))
}

impl<'a> Shown<'a> {
    /// Nothing where the text is not a token.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.strip_prefix(PREFIX)?.split('_');
        let role = parts.next()?;
        let shown = if role == LOCAL {
            Self::Local(Digits::of(parts.next()?)?)
        } else if role == ENROLL {
            let id = parts.next().filter(|id| is_hex(id, ID_DIGITS))?;
            let secret = Digits::of(parts.next()?)?;
            Self::Enroll { id, secret }
        } else {
            let role = Role::named(role)?;
            let id = parts.next().filter(|id| is_hex(id, ID_DIGITS))?;
            let secret = Digits::of(parts.next()?)?;
            Self::Made { role, id, secret }
        };
        parts.next().is_none().then_some(shown)
    }
}

impl<'a> Digits<'a> {
    fn of(text: &'a str) -> Option<Self> {
        is_hex(text, SECRET_DIGITS).then_some(Self(text))
    }

    /// Whether this is the secret of a token of the catalog.
    pub(super) fn is_of(&self, token: &Token) -> bool {
        self.is(&token.key, &token.hash)
    }

    /// Whether this is what was hashed under this key.
    pub(super) fn is(&self, key: &[u8; 32], hash: &[u8; 32]) -> bool {
        // Compares in constant time.
        blake3::keyed_hash(key, self.0.as_bytes()) == *hash
    }

    /// Whether this is the secret of the local token.
    pub(super) fn is_of_local(&self, local: &Secret) -> bool {
        let Some(Shown::Local(own)) = Shown::parse(local.expose()) else {
            return false;
        };
        blake3::hash(self.0.as_bytes()) == blake3::hash(own.0.as_bytes())
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == digits && text.bytes().all(lower)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        Wanted {
            role: Role::Reader,
            tenant: "plant".into(),
            name: "dashboards".into(),
            expires_at_ns: None,
        }
    }

    /// Red when the secret is kept, or another one is taken for it.
    #[test]
    fn a_token_is_known_by_its_secret_which_is_kept_nowhere() {
        let (token, text) = make(&wanted(), 5).unwrap();
        let (_, other) = make(&wanted(), 5).unwrap();
        let Some(Shown::Made { role, id, secret }) = Shown::parse(text.expose()) else {
            panic!("it is a token");
        };
        assert_eq!((role, id), (Role::Reader, token.id.as_str()));
        assert!(secret.is_of(&token));
        let Some(Shown::Made { secret: theirs, .. }) = Shown::parse(other.expose()) else {
            panic!("it is a token");
        };
        assert!(!theirs.is_of(&token));
        let debug = format!("{token:?} {text:?} {secret:?}");
        assert!(
            !debug.contains(secret.0) && !debug.contains("hash"),
            "{debug}"
        );
        let kept = [&token.key[..], &token.hash].concat();
        assert!(!hex(&kept).contains(secret.0));
    }

    #[test]
    fn a_local_token_is_known_again_and_others_are_not() {
        let (one, two) = (make_local().unwrap(), make_local().unwrap());
        let Some(Shown::Local(shown)) = Shown::parse(one.expose()) else {
            panic!("it is a local token");
        };
        assert!(shown.is_of_local(&one) && !shown.is_of_local(&two));
        assert!(!shown.is_of_local(&Secret::new("")));
    }

    #[test]
    fn what_is_no_token_is_not_read() {
        let (_, text) = make(&wanted(), 5).unwrap();
        let text = text.expose();
        let shorter = &text[..text.len() - 1];
        let longer = format!("{text}0");
        let more = format!("{text}_0");
        let upper = text.to_uppercase();
        let role = text.replace("reader", "owner");
        for bad in [
            "",
            "weir_",
            "weir_local",
            "weir_local_",
            "hunter2",
            shorter,
            &longer,
            &more,
            &upper,
            &role,
        ] {
            assert_eq!(Shown::parse(bad), None);
        }
    }
}
