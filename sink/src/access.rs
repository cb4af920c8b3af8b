//! Who may speak: from what a request shows to a [`Caller`], or to a [`Denied`] that says why not.
//!
//! In: the authorization header and the address of each request, over gRPC and HTTP, and what it is about. Out: the
//! caller, whose tenant is the only one there is from then on. Promises:
//!
//! * identity decides the tenant, never a message. What is shown is always verified, also where nothing is asked for;
//! * every door has a row in [`table`], and what has none cannot be reached;
//! * what was revoked ends within a second, on calls that run too ([`Caller::ended`]);
//! * refusals are counted, and noted in the audit log as far as it can take them.
//!
//! | shown | is |
//! |---|---|
//! | `Bearer weir_ROLE_...` | a token of the catalog: its tenant, its role |
//! | a client certificate that the sink has signed and the catalog has | the agent of that name |
//! | `Bearer weir_local_...` | whoever can read `local-token` in the data directory: admin of the tenant that the header `weir-tenant` names |
//! | nothing | anonymous, of the tenant `default`, who may do everything, where no credential is asked for; else nobody |

mod authority;
mod caller;
mod denied;
mod enrolment;
mod known;
mod pattern;
mod refusals;
mod standing;
pub mod table;
#[cfg(test)]
mod tests;
pub mod token;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_process::clock::{Clock, SystemClock};
use weir_process::metrics::Registry;
use weir_process::metrics::prometheus_client::encoding::EncodeLabelSet;
use weir_process::metrics::prometheus_client::metrics::counter::Counter;
use weir_process::metrics::prometheus_client::metrics::family::Family;
use weir_process::secret::Secret;
use weir_process::tls::Fingerprint;

use crate::catalog::{Catalog, CatalogError, Deed};
use crate::model::{DEFAULT_TENANT, Role, is_tenant};

pub use authority::Authority;
pub use caller::{Caller, Who};
pub use denied::Denied;
pub use enrolment::{Enroll, Enrolment, EnrolmentError, Issued, RENEW, Renew};
use known::{By, Known};
pub use pattern::is_pattern;
use refusals::{Like, Refusals};
use standing::Standing;
use table::Need;
use token::Shown;

/// How often there is a look at the catalog: a revocation takes effect within twice of it.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A token nobody knows makes for a look at once, at most this often.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Refusals that wait to be noted.
const MAX_WAITING: usize = 256;

/// The tenant that whoever is at home asks for.
pub const TENANT_HEADER: &str = "weir-tenant";

/// The label of refusals.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// A handle; clones share what stands behind it.
#[derive(Clone)]
pub struct Access {
    inner: Arc<Inner>,
}

struct Inner {
    /// Whether whoever shows nothing is turned away.
    required: bool,
    local: Option<Secret>,
    enrolment: Option<Enrolment>,
    catalog: Option<Catalog>,
    clock: Arc<dyn Clock>,
    known: watch::Sender<Arc<Known>>,
    /// When the catalog was last looked at for somebody unknown.
    looked: tokio::sync::Mutex<Option<Instant>>,
    refusals: Mutex<Refusals>,
    waiting: mpsc::Sender<Deed>,
    /// Taken by [`Access::follow`].
    waited: Mutex<Option<mpsc::Receiver<Deed>>>,
    refused: Family<Reason, Counter>,
}

/// What is asked of callers.
#[derive(Debug, Default)]
pub struct Asking {
    /// Whether whoever shows nothing is turned away.
    pub required: bool,
    /// What whoever is at home shows.
    pub local: Option<Secret>,
    /// How agents get certificates; nothing where they do not.
    pub enrolment: Option<Enrolment>,
}

/// What a request shows of who sends it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Of the other side.
    pub address: Option<SocketAddr>,
    /// What it proved to own in the handshake, DER.
    pub certificate: Option<&'a [u8]>,
    /// All of them.
    pub headers: &'a HeaderMap,
    /// What it is about: a path, for the audit log.
    pub object: &'a str,
}

impl Access {
    /// Nobody is asked who they are. For what runs inside another program.
    pub fn open_to_all() -> Self {
        Self::new(
            Asking::default(),
            None,
            Arc::new(SystemClock),
            Known::default(),
        )
    }

    /// Knows what the catalog has now; see [`Access::follow`].
    ///
    /// # Errors
    /// The catalog cannot be read.
    pub async fn load(
        catalog: &Catalog,
        clock: Arc<dyn Clock>,
        asking: Asking,
    ) -> Result<Self, CatalogError> {
        let known = look(catalog).await?;
        Ok(Self::new(asking, Some(catalog.clone()), clock, known))
    }

    fn new(asking: Asking, catalog: Option<Catalog>, clock: Arc<dyn Clock>, known: Known) -> Self {
        let (waiting, waited) = mpsc::channel(MAX_WAITING);
        Self {
            inner: Arc::new(Inner {
                required: asking.required,
                local: asking.local,
                enrolment: asking.enrolment,
                catalog,
                clock,
                known: watch::Sender::new(Arc::new(known)),
                looked: tokio::sync::Mutex::default(),
                refusals: Mutex::default(),
                waiting,
                waited: Mutex::new(Some(waited)),
                refused: Family::default(),
            }),
        }
    }

    /// Registers what it counts.
    pub fn register(&self, registry: &Registry) {
        registry.register(
            "access_refused",
            "requests that were turned away, by reason",
            self.inner.refused.clone(),
        );
    }

    /// Who sends this, if they may do what asks for `need`.
    ///
    /// # Errors
    /// They may not; the refusal is counted and noted.
    pub async fn ask(&self, request: Request<'_>, need: Need) -> Result<Caller, Denied> {
        let asked = match self.caller(request, need).await {
            Ok(caller) => {
                let checked = caller.check(need);
                checked
                    .map(|()| caller.clone())
                    .map_err(|denied| (denied, Some(caller)))
            }
            Err(denied) => Err((denied, None)),
        };
        asked.map_err(|(denied, caller)| {
            self.refuse(&denied, caller.as_ref(), request);
            denied
        })
    }

    /// Who sends this.
    async fn caller(&self, request: Request<'_>, need: Need) -> Result<Caller, Denied> {
        let inner = &self.inner;
        let Some(text) = bearer(request.headers)? else {
            if let Some(certificate) = request.certificate {
                return self.agent(certificate, request).await;
            }
            if inner.required && need != Need::Nothing {
                return Err(Denied::Missing);
            }
            let caller = Caller::anonymous(request.address);
            return confined(caller, request.headers);
        };
        let shown = Shown::parse(text).ok_or(Denied::Unreadable)?;
        let (role, id, secret) = match shown {
            Shown::Local(secret) => {
                let right = inner
                    .local
                    .as_ref()
                    .is_some_and(|own| secret.is_of_local(own));
                return if right {
                    at_home(request)
                } else {
                    Err(Denied::Unknown)
                };
            }
            Shown::Enroll { .. } => return Err(Denied::Unknown),
            Shown::Made { role, id, secret } => (role, id, secret),
        };
        if self.known().get(id).is_none() {
            self.look_for_somebody_new().await;
        }
        let known = self.known();
        let token = known.verify((role, id, &secret), inner.clock.wall_ns())?;
        let id: Arc<str> = id.into();
        let caller = Caller {
            tenant: Arc::clone(&token.tenant),
            who: Who::Token {
                id: Arc::clone(&id),
                name: Arc::clone(&token.name),
            },
            role,
            address: request.address,
            standing: Some(self.standing(By::Token(id))),
        };
        confined(caller, request.headers)
    }

    /// The agent whose certificate this is.
    async fn agent(&self, certificate: &[u8], request: Request<'_>) -> Result<Caller, Denied> {
        let print = Fingerprint::of(certificate).to_string();
        if self.known().certificate(&print).is_none() {
            self.look_for_somebody_new().await;
        }
        let known = self.known();
        let found = known.certificate(&print);
        let found = found.ok_or(Denied::UnknownCertificate)?;
        let by = By::Certificate(print.into());
        known.stands(&by, self.inner.clock.wall_ns())?;
        let caller = Caller {
            tenant: Arc::clone(&found.tenant),
            who: Who::Agent {
                name: Arc::clone(&found.agent),
            },
            role: Role::Agent,
            address: request.address,
            standing: Some(self.standing(by)),
        };
        confined(caller, request.headers)
    }

    fn standing(&self, by: By) -> Standing {
        Standing {
            by,
            known: self.inner.known.subscribe(),
            clock: Arc::clone(&self.inner.clock),
        }
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.inner.known.borrow())
    }

    /// A token that was just made is not in what is known yet. One look serves all who wait for it.
    async fn look_for_somebody_new(&self) {
        let came = Instant::now();
        let mut looked = self.inner.looked.lock().await;
        match *looked {
            Some(at) if at >= came => return,
            Some(at) => tokio::time::sleep_until(at + LOOK_AGAIN).await,
            None => {}
        }
        *looked = Some(Instant::now());
        if let Err(error) = self.refresh().await {
            tracing::debug!(%error, "cannot look for a token that was just made");
        }
    }

    /// Takes over what has changed.
    async fn refresh(&self) -> Result<(), CatalogError> {
        let Some(catalog) = &self.inner.catalog else {
            return Ok(());
        };
        if catalog.access_generation().await? == self.known().generation {
            return Ok(());
        }
        let known = look(catalog).await?;
        tracing::debug!(generation = known.generation, "credentials have changed");
        self.inner.known.send_replace(Arc::new(known));
        Ok(())
    }

    /// Looks at the catalog again and again until told to stop, and notes refusals there.
    pub async fn follow(self, token: CancellationToken) {
        let waited = self.inner.waited.lock();
        let waited = waited.unwrap_or_else(PoisonError::into_inner).take();
        let mut waited = waited.expect("it is followed once");
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut failing = false;
        loop {
            let deed = tokio::select! {
                biased;
                () = token.cancelled() => break,
                _ = ticks.tick() => None,
                deed = waited.recv() => deed,
            };
            let done = match deed {
                Some(deed) => self.write(vec![deed]).await,
                None => self.refresh().await,
            };
            match done {
                Ok(()) => failing = false,
                Err(error) if !std::mem::replace(&mut failing, true) => tracing::warn!(
                    %error,
                    "the catalog cannot be asked for credentials: what was known before goes on to count"
                ),
                Err(_) => {}
            }
        }
        let mut rest = Vec::new();
        while let Ok(deed) = waited.try_recv() {
            rest.push(deed);
        }
        if let Err(error) = self.write(rest).await {
            tracing::debug!(%error, "the last refusals are not in the audit log");
        }
    }

    /// Notes what a caller did. It has happened already: where the catalog is away the log of the program has it.
    pub async fn note(&self, caller: &Caller, action: &str, object: &str, outcome: &str) {
        let deed = Deed {
            at_ns: self.inner.clock.wall_ns(),
            tenant: caller.tenant().to_string(),
            who: caller.who().to_string(),
            action: action.to_owned(),
            object: object.to_owned(),
            outcome: outcome.to_owned(),
            address: shown_address(caller.address()),
        };
        say(&deed);
        if let Err(error) = self.write(vec![deed]).await {
            tracing::error!(%error, action, object, "this is not in the audit log");
        }
    }

    async fn write(&self, deeds: Vec<Deed>) -> Result<(), CatalogError> {
        match &self.inner.catalog {
            Some(catalog) if !deeds.is_empty() => catalog.record(&deeds).await,
            _ => Ok(()),
        }
    }

    /// The catalog behind it, for reading the audit log.
    pub(crate) fn catalog(&self) -> Option<&Catalog> {
        self.inner.catalog.as_ref()
    }

    /// Counts a refusal, and notes it unless one like it was noted a moment ago.
    pub(crate) fn refuse(&self, denied: &Denied, caller: Option<&Caller>, request: Request<'_>) {
        let inner = &self.inner;
        let reason = denied.reason();
        inner.refused.get_or_create(&Reason { reason }).inc();
        let known = self.known();
        let shown = bearer(request.headers)
            .ok()
            .flatten()
            .and_then(Shown::parse);
        let token = match shown {
            Some(Shown::Made { id, .. }) => known.get(id),
            _ => None,
        };
        let like = Like {
            id: token.map(|token| token.id.clone()),
            from: request.address.map(|address| address.ip()),
            reason,
        };
        let refusals = inner.refusals.lock();
        let mut refusals = refusals.unwrap_or_else(PoisonError::into_inner);
        if !refusals.is_news(like, inner.clock.monotonic_ns()) {
            return;
        }
        drop(refusals);
        let who = match (caller, token) {
            (Some(caller), _) => caller.who().to_string(),
            // Its secret may have been wrong.
            (None, Some(token)) => format!("whoever showed token {} ({})", token.id, token.name),
            (None, None) => "unknown".to_owned(),
        };
        let deed = Deed {
            at_ns: inner.clock.wall_ns(),
            tenant: token
                .map(|token| token.tenant.to_string())
                .unwrap_or_default(),
            who,
            action: "access".to_owned(),
            object: request
                .object
                .chars()
                .filter(|c| !c.is_control())
                .take(200)
                .collect(),
            outcome: format!("refused: {reason}"),
            address: shown_address(request.address),
        };
        say(&deed);
        if inner.waiting.try_send(deed).is_err() {
            tracing::warn!("the catalog is slow: a refusal is not in the audit log");
        }
    }
}

async fn look(catalog: &Catalog) -> Result<Known, CatalogError> {
    // First, so that a change in between is found again.
    let generation = catalog.access_generation().await?;
    let (tokens, certificates) = (catalog.tokens().await?, catalog.certificates().await?);
    Ok(Known::new(generation, tokens, certificates))
}

/// What the one authorization header holds, if there is one.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Denied> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (first, second) = (all.next(), all.next());
    let Some(first) = first else {
        return Ok(None);
    };
    let text = first.to_str().map_err(|_| Denied::Unreadable)?;
    let (scheme, token) = text.split_once(' ').ok_or(Denied::Unreadable)?;
    if second.is_some() || !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Denied::Unreadable);
    }
    Ok(Some(token.trim()))
}

/// The tenant somebody asks for.
fn wanted(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(TENANT_HEADER)
}

/// A caller has one tenant and may not ask for another.
fn confined(caller: Caller, headers: &HeaderMap) -> Result<Caller, Denied> {
    match wanted(headers) {
        Some(other) if other.as_bytes() != caller.tenant.as_bytes() => Err(Denied::Tenant),
        _ => Ok(caller),
    }
}

/// Whoever is at home chooses the tenant.
fn at_home(request: Request<'_>) -> Result<Caller, Denied> {
    let tenant = wanted(request.headers).map_or(Some(DEFAULT_TENANT), |value| {
        value.to_str().ok().filter(|slug| is_tenant(slug))
    });
    Ok(Caller {
        tenant: tenant.ok_or(Denied::Tenant)?.into(),
        who: Who::Local,
        role: Role::Admin,
        address: request.address,
        standing: None,
    })
}

fn shown_address(address: Option<SocketAddr>) -> String {
    address
        .map(|address| address.to_string())
        .unwrap_or_default()
}

/// The audit log for whoever reads the program's log.
pub(crate) fn say(deed: &Deed) {
    let Deed {
        tenant,
        who,
        action,
        object,
        outcome,
        address,
        ..
    } = deed;
    tracing::info!(target: "audit", tenant, who, action, object, outcome, address, "noted");
}
