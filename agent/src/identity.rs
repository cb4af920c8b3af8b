//! What the agent shows a sink of itself.
//!
//! In: the settings. Out: a [`Credential`] that every call is made with, or an identity of the agent's own, which is asked
//! for once and renewed by itself ([`enrolment`]). A token in a file is read anew for each call,
//! so that another one takes effect without a restart; and whoever waits because the sink did not let it in is told
//! when the file changes.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use weir_process::secret::Secret;

pub(crate) mod enrolment;
mod shown;
mod store;
#[cfg(test)]
mod tests;

pub use enrolment::Enrolment;
pub(crate) use shown::Shown;

/// How often a file is looked at while the agent waits for another token.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Nothing longer is a token.
const MAX_TOKEN_BYTES: u64 = 4096;

/// What is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credential {
    /// Nothing.
    #[default]
    None,
    /// A token as it was set.
    Token(Secret),
    /// The token in this file, as it is there now.
    TokenFile(PathBuf),
}

/// Why there is nothing to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The file.
    #[error(
        "cannot read the token in {path}: {reason}: WEIR_AGENT_SINK_TOKEN_FILE or WEIR_AGENT_ENROLL_TOKEN_FILE names it"
    )]
    File {
        /// Which.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// What was set or is in the file cannot be sent.
    #[error(
        "what {0} holds is no token: it must be one line, as the command that made it showed it"
    )]
    NoToken(String),
}

impl Credential {
    /// What settings say: a token, and the file it came from if it did.
    pub(crate) fn new(token: Secret, file: Option<PathBuf>) -> Self {
        match file {
            Some(path) => Self::TokenFile(path),
            None if token.is_empty() => Self::None,
            None => Self::Token(token),
        }
    }

    /// The token, if there is to be one.
    ///
    /// # Errors
    /// There is none now.
    pub(crate) fn text(&self) -> Result<Option<Secret>, CredentialError> {
        let (token, place) = match self {
            Self::None => return Ok(None),
            Self::Token(token) => (token.clone(), "the setting".to_owned()),
            Self::TokenFile(path) => (read(path)?, path.display().to_string()),
        };
        let good = |byte: u8| byte.is_ascii_graphic();
        if token.is_empty() || !token.expose().bytes().all(good) {
            return Err(CredentialError::NoToken(place));
        }
        Ok(Some(token))
    }

    /// Adds it to a call.
    ///
    /// # Errors
    /// There is none that can be shown now.
    pub(crate) fn show(&self, metadata: &mut MetadataMap) -> Result<(), CredentialError> {
        let Some(token) = self.text()? else {
            return Ok(());
        };
        let value = format!("Bearer {}", token.expose());
        let mut value = AsciiMetadataValue::try_from(value)
            .map_err(|_| CredentialError::NoToken("the setting".to_owned()))?;
        // `Debug` of a request does not show it, and compression does not keep it.
        value.set_sensitive(true);
        metadata.insert("authorization", value);
        Ok(())
    }

    /// What is in the file now, for [`Credential::changed`].
    pub(crate) fn seen(&self) -> Option<Secret> {
        match self {
            Self::TokenFile(path) => read(path).ok(),
            _ => None,
        }
    }

    /// Ends once the file holds another token than was `seen`. Never where there is no file.
    pub(crate) async fn changed(&self, seen: &Option<Secret>) {
        let Self::TokenFile(_) = self else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = self.seen();
            if now.is_some() && now != *seen {
                return;
            }
        }
    }
}

fn read(path: &PathBuf) -> Result<Secret, CredentialError> {
    let failed = |reason: String| CredentialError::File {
        path: path.display().to_string(),
        reason,
    };
    let size = fs::metadata(path).map_err(|error| failed(error.kind().to_string()))?;
    if size.len() > MAX_TOKEN_BYTES {
        return Err(CredentialError::NoToken(path.display().to_string()));
    }
    let text = Secret::read(path).map_err(|error| failed(error.kind().to_string()))?;
    Ok(Secret::new(text.expose().trim()))
}
