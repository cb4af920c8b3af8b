//! An identity of the agent's own: asked for with a token, once, and renewed by itself.
//!
//! In: where it is kept, and a way to the sink. Out: before each call, an identity that is good, or a [`Failure`] that
//! says why there is none. What has two thirds of its time behind it is renewed beside delivery; what ended while the
//! agent was away is renewed before the next call. Nothing here ends the agent: it samples and spools meanwhile.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex, watch};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use weir_process::random;
use weir_process::tls::{ClientSettings, Key};
use weir_proto::v1;
use weir_proto::v1::enrollment_service_client::EnrollmentServiceClient;

use super::Credential;
use super::store::{Kept, Store};
use crate::sender::failure::Failure;
use crate::sender::transport::Transport;

/// What the signature of a renewal begins with.
const RENEW: &[u8] = b"weir renew v1\0";

/// How long the sink may take over a certificate.
const PATIENCE: Duration = Duration::from_secs(15);

/// A renewal that failed is tried again after this, and up to as much later.
const AGAIN: Duration = Duration::from_secs(30);

/// No wait is longer: the clock may be set meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Where an identity is kept, and what it is asked for with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// Directory of the identity.
    pub dir: PathBuf,
    /// The token it is asked for with, while there is none.
    pub token: Credential,
}

impl Enrolment {
    /// Whether there is an identity already.
    pub(crate) fn is_there(&self) -> bool {
        self.file().exists()
    }

    /// Where it is, or will be.
    pub(crate) fn file(&self) -> PathBuf {
        Store::at(self.dir.clone()).file()
    }
}

/// See the module.
pub(crate) struct Identity {
    store: Store,
    token: Credential,
    agent: String,
    endpoint: Endpoint,
    transport: Transport,
    connect_timeout: Duration,
    kept: Mutex<Option<Kept>>,
    /// Counts identities: another one is for the next connection.
    changes: watch::Sender<u64>,
}

impl Identity {
    /// `tls` says whom to trust; `endpoint` is the sink's.
    pub(crate) fn new(
        enrolment: Enrolment,
        agent: &str,
        (endpoint, tls): (Endpoint, &ClientSettings),
        connect_timeout: Duration,
    ) -> Self {
        let anonymous = ClientSettings {
            identity: None,
            ..tls.clone()
        };
        Self {
            transport: Transport::new(endpoint.uri(), &anonymous, connect_timeout),
            store: Store::at(enrolment.dir),
            token: enrolment.token,
            agent: agent.to_owned(),
            endpoint,
            connect_timeout,
            kept: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// What connections are made with once there is an identity.
    pub(crate) fn settings(&self, tls: &ClientSettings) -> ClientSettings {
        ClientSettings {
            identity: Some((self.store.file(), self.store.file())),
            ..tls.clone()
        }
    }

    /// Counts identities.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Makes sure that there is an identity that is good now.
    ///
    /// # Errors
    /// The sink gives none, or cannot be asked.
    pub(crate) async fn ensure(&self) -> Result<(), Failure> {
        let mut kept = self.kept.lock().await;
        if kept.is_none() {
            *kept = self.read()?;
        }
        match &*kept {
            Some(own) if SystemTime::now() < own.not_after => return Ok(()),
            Some(_) => {
                tracing::info!("this agent's certificate has ended: asking for the next one");
                *kept = Some(self.renew(kept.as_ref()).await?);
            }
            None => *kept = Some(self.enroll().await?),
        }
        Ok(())
    }

    /// Ends once the file of the token holds another one than was `seen`.
    pub(crate) async fn token_changed(&self) {
        let seen = self.token.seen();
        self.token.changed(&seen).await;
    }

    /// Renews in time, for ever.
    pub(crate) async fn keep(&self) {
        loop {
            let due = {
                let kept = self.kept.lock().await;
                kept.as_ref().map(|own| own.renew_after)
            };
            let now = SystemTime::now();
            let left = match due {
                Some(due) => due.duration_since(now).unwrap_or(Duration::ZERO),
                None => LONGEST_WAIT / 12,
            };
            if due.is_none() || !left.is_zero() {
                tokio::time::sleep(left.min(LONGEST_WAIT)).await;
                continue;
            }
            let mut kept = self.kept.lock().await;
            match self.renew(kept.as_ref()).await {
                Ok(new) => *kept = Some(new),
                Err(failure) => {
                    drop(kept);
                    tracing::warn!(error = %failure, "this agent's certificate cannot be renewed now: trying again");
                    tokio::time::sleep(AGAIN + random::below(AGAIN)).await;
                }
            }
        }
    }

    fn read(&self) -> Result<Option<Kept>, Failure> {
        self.store.read().map_err(|error| self.disk(&error))
    }

    fn disk(&self, error: &std::io::Error) -> Failure {
        let dir = self.store.dir().display();
        Failure::Identity(format!(
            "cannot use the identity in {dir}: {error}: if it is damaged, remove it and set WEIR_AGENT_ENROLL_TOKEN_FILE"
        ))
    }

    async fn enroll(&self) -> Result<Kept, Failure> {
        let token = self.token.text()?.ok_or_else(|| {
            Failure::Identity(
                "this agent has no identity: set WEIR_AGENT_ENROLL_TOKEN_FILE to what `weir-sink enroll-token create` shows"
                    .to_owned(),
            )
        })?;
        let key = self.store.pending().map_err(|error| self.disk(&error))?;
        let request = v1::EnrollRequest {
            token: token.expose().to_owned(),
            csr_der: request(&key)?,
            agent: self.agent.clone(),
        };
        let mut client = self.client().await?;
        let answer = within(client.enroll(request)).await?;
        let kept = self.take(key, answer.certificate_chain, answer.lifetime_seconds)?;
        tracing::info!(
            agent = self.agent,
            "enrolled: this agent has a certificate of its own"
        );
        Ok(kept)
    }

    async fn renew(&self, old: Option<&Kept>) -> Result<Kept, Failure> {
        let old = old.ok_or_else(|| Failure::Identity("there is nothing to renew".to_owned()))?;
        let certificate = old
            .chain
            .first()
            .map(|own| own.to_vec())
            .unwrap_or_default();
        let key = self.store.pending().map_err(|error| self.disk(&error))?;
        let csr_der = request(&key)?;
        let signed = [RENEW, &certificate, &csr_der].concat();
        let signature = old.key.sign(&signed).map_err(|_| drawn())?;
        let request = v1::RenewRequest {
            certificate_der: certificate,
            csr_der,
            signature,
        };
        let mut client = self.client().await?;
        let answer = within(client.renew(request)).await?;
        let kept = self.take(key, answer.certificate_chain, answer.lifetime_seconds)?;
        tracing::info!("this agent's certificate is renewed");
        Ok(kept)
    }

    async fn client(&self) -> Result<EnrollmentServiceClient<Channel>, Failure> {
        let connecting = self.transport.connect(&self.endpoint);
        match tokio::time::timeout(self.connect_timeout, connecting).await {
            Ok(channel) => Ok(EnrollmentServiceClient::new(channel?)),
            Err(_) => Err(Failure::Unreachable(format!(
                "no connection within {} s",
                self.connect_timeout.as_secs()
            ))),
        }
    }

    /// Keeps what came, and tells whoever is connected with the one before.
    fn take(&self, key: Key, chain: Vec<Vec<u8>>, lifetime: i64) -> Result<Kept, Failure> {
        let lifetime = Duration::from_secs(u64::try_from(lifetime).unwrap_or(0));
        let renew_after = SystemTime::now() + lifetime * 2 / 3;
        let kept = self.store.keep(&key, &chain, renew_after);
        kept.map_err(|error| self.disk(&error))?;
        let kept = self
            .read()?
            .filter(|kept| kept.key.public() == key.public());
        let kept =
            kept.ok_or_else(|| Failure::Identity("the sink sent no certificate".to_owned()))?;
        self.changes.send_modify(|number| *number += 1);
        Ok(kept)
    }
}

fn request(key: &Key) -> Result<Vec<u8>, Failure> {
    key.request().map_err(|_| drawn())
}

fn drawn() -> Failure {
    Failure::Identity("the system gives no random numbers".to_owned())
}

async fn within<T>(
    asking: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Failure> {
    let answer = tokio::time::timeout(PATIENCE, asking).await;
    let answer = answer.map_err(|_| Failure::Silent(PATIENCE))?;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| match status.code() {
            Code::Unavailable
            | Code::Unauthenticated
            | Code::PermissionDenied
            | Code::DeadlineExceeded => Failure::from_status(&status, true),
            Code::Unimplemented => Failure::Identity(
                "the sink does not know how to enrol agents: upgrade weir-sink".to_owned(),
            ),
            _ => Failure::Identity(format!(
                "the sink gives no certificate: {}",
                status.message()
            )),
        })
}
