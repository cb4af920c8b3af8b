//! From a token to a certificate, and from a certificate to the next one.
//!
//! | asked with | answered where |
//! |---|---|
//! | a token `weir_enroll_ID_SECRET` | it is known, stands, is for this name, and a use is left |
//! | a certificate, and its key's signature | the catalog has it, it was not revoked, and ended `enroll.grace` ago at most |
//!
//! A use is counted in the transaction that notes the certificate: of ten agents that race for three, three win.

use std::time::Duration;

use weir_process::tls::{Fingerprint, verifies};

use super::authority::{Authority, RequestError, Signed};
use super::denied::Denied;
use super::notes::{say, shown_address};
use super::token::Shown;
use super::{Access, Request, pattern};
use crate::catalog::{Catalog, CatalogError, Certificate, Deed, EnrollToken, Enrolled};

/// What the signature of a renewal begins with, so that it is one of nothing else.
pub const RENEW: &[u8] = b"weir renew v1\0";

/// How certificates of agents are made.
pub struct Enrolment {
    /// Signs them.
    pub authority: Authority,
    /// How long they are good.
    pub lifetime: Duration,
    /// How long after their end they can still be renewed.
    pub grace: Duration,
}

/// What an agent gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// DER, the agent's own first.
    pub chain: Vec<Vec<u8>>,
    /// When it ends, Unix nanoseconds.
    pub not_after_ns: i64,
    /// How long it is good.
    pub lifetime: Duration,
}

/// Why an agent gets none.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// It may not have one.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// What it sent is none.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// There is nobody to sign it.
    #[error(
        "this sink signs no certificates: set WEIR_SINK_TLS_CERT, WEIR_SINK_TLS_CA and WEIR_SINK_TLS_CA_KEY there \
         (`weir-sink certs init` makes them all)"
    )]
    Closed,
    /// The catalog is away.
    #[error("the sink cannot note the certificate now: try again")]
    Catalog(#[from] CatalogError),
}

/// Asked for by an agent.
pub struct Enroll<'a> {
    /// As it was shown.
    pub token: &'a str,
    /// The name it will say in Hello.
    pub agent: &'a str,
    /// DER.
    pub csr: &'a [u8],
}

/// Asked for by an agent that has one.
pub struct Renew<'a> {
    /// DER.
    pub certificate: &'a [u8],
    /// DER.
    pub csr: &'a [u8],
    /// Over [`RENEW`], the certificate and the CSR.
    pub signature: &'a [u8],
}

impl Access {
    /// A certificate for a token.
    ///
    /// # Errors
    /// There is none for it; a refusal is counted and noted.
    pub async fn enroll(
        &self,
        asked: Enroll<'_>,
        request: Request<'_>,
    ) -> Result<Issued, EnrolmentError> {
        let (catalog, enrolment) = self.enrolling()?;
        let token = match self.enroll_token(catalog, &asked).await {
            Ok(token) => token,
            Err(EnrolmentError::Denied(denied)) => {
                return Err(self.turned_away(denied, asked.agent, request));
            }
            Err(error) => return Err(error),
        };
        let now_ns = self.inner.clock.wall_ns();
        let lifetime = enrolment.lifetime;
        let whose = (&*token.tenant, asked.agent);
        let signed = enrolment
            .authority
            .sign(whose, asked.csr, (now_ns, lifetime))?;
        let certificate = certificate(&signed, whose, token.id.clone(), now_ns);
        let deed = Deed {
            who: format!("agent {} by enrol token {}", asked.agent, token.id),
            ..deed("certificate.enroll", &certificate, request)
        };
        match catalog.enroll(&token.id, &certificate, &deed).await? {
            Enrolled::Done => {}
            Enrolled::UsedUp => {
                let denied = Denied::UsedUp(token.id, token.uses);
                return Err(self.turned_away(denied, asked.agent, request));
            }
        }
        Ok(self.issued(signed, &deed, lifetime).await)
    }

    /// The certificate after this one.
    ///
    /// # Errors
    /// There is none; a refusal is counted and noted.
    pub async fn renew(
        &self,
        asked: Renew<'_>,
        request: Request<'_>,
    ) -> Result<Issued, EnrolmentError> {
        let (catalog, enrolment) = self.enrolling()?;
        let now_ns = self.inner.clock.wall_ns();
        let print = Fingerprint::of(asked.certificate).to_string();
        let old = match self.renewable(catalog, &asked, &print, now_ns).await {
            Ok(old) => old,
            Err(EnrolmentError::Denied(denied)) => {
                return Err(self.turned_away(denied, "", request));
            }
            Err(error) => return Err(error),
        };
        let lifetime = enrolment.lifetime;
        let whose = (&*old.tenant, &*old.agent);
        let signed = enrolment
            .authority
            .sign(whose, asked.csr, (now_ns, lifetime))?;
        let certificate = certificate(&signed, whose, print, now_ns);
        let deed = Deed {
            who: format!("agent {}", old.agent),
            ..deed("certificate.renew", &certificate, request)
        };
        let before = catalog.renew_certificate(&certificate, &deed).await?;
        if before > 0 {
            tracing::warn!(
                tenant = &*old.tenant,
                agent = &*old.agent,
                times = before + 1,
                address = deed.address,
                "a certificate was renewed more than once: an answer was lost, or a copy of this agent's identity is in use \
                 elsewhere (`weir-sink certs revoke` ends all of its certificates)"
            );
        }
        Ok(self.issued(signed, &deed, lifetime).await)
    }

    fn enrolling(&self) -> Result<(&Catalog, &Enrolment), EnrolmentError> {
        let inner = &self.inner;
        match (&inner.catalog, &inner.enrolment) {
            (Some(catalog), Some(enrolment)) => Ok((catalog, enrolment)),
            _ => Err(EnrolmentError::Closed),
        }
    }

    /// The token this is, if it stands and is for this name.
    async fn enroll_token(
        &self,
        catalog: &Catalog,
        asked: &Enroll<'_>,
    ) -> Result<EnrollToken, EnrolmentError> {
        let Some(Shown::Enroll { id, secret }) = Shown::parse(asked.token.trim()) else {
            return Err(Denied::NoEnrollToken.into());
        };
        let tokens = catalog.enroll_tokens().await?;
        let found = tokens.into_iter().find(|token| token.id == id);
        let found = found.filter(|token| secret.is(&token.key, &token.hash));
        let token = found.ok_or(Denied::Unknown)?;
        let now_ns = self.inner.clock.wall_ns();
        if token.revoked_at_ns.is_some() {
            return Err(Denied::Revoked(token.id).into());
        }
        if token.expires_at_ns.is_some_and(|at| at <= now_ns) {
            return Err(Denied::Expired(token.id).into());
        }
        if !pattern::is_pattern(asked.agent) || !pattern::matches(&token.pattern, asked.agent) {
            return Err(Denied::Agent {
                is: token.pattern.to_string(),
                said: asked.agent.to_owned(),
            }
            .into());
        }
        Ok(token)
    }

    /// The certificate this is, if it may be renewed and who asks has its key.
    async fn renewable(
        &self,
        catalog: &Catalog,
        asked: &Renew<'_>,
        print: &str,
        now_ns: i64,
    ) -> Result<Certificate, EnrolmentError> {
        let grace = self.enrolling()?.1.grace;
        let known = catalog.certificates().await?;
        let found = known.into_iter().find(|known| known.fingerprint == print);
        let old = found.ok_or(Denied::UnknownCertificate)?;
        let signed = [RENEW, asked.certificate, asked.csr].concat();
        if !verifies(&old.public_key, &signed, asked.signature) {
            return Err(Denied::UnknownCertificate.into());
        }
        let agent = old.agent.to_string();
        if old.revoked_at_ns.is_some() {
            return Err(Denied::RevokedCertificate(agent).into());
        }
        let grace_ns = i64::try_from(grace.as_nanos()).unwrap_or(i64::MAX);
        if old.not_after_ns.saturating_add(grace_ns) <= now_ns {
            return Err(Denied::ExpiredCertificate(agent).into());
        }
        Ok(old)
    }

    async fn issued(&self, signed: Signed, deed: &Deed, lifetime: Duration) -> Issued {
        say(deed);
        // So that its first connection finds it known.
        if let Err(error) = self.refresh().await {
            tracing::debug!(%error, "a new certificate is known a moment later");
        }
        Issued {
            chain: signed.chain,
            not_after_ns: signed.not_after_ns,
            lifetime,
        }
    }

    fn turned_away(&self, denied: Denied, agent: &str, request: Request<'_>) -> EnrolmentError {
        tracing::info!(
            reason = denied.reason(),
            agent,
            "no certificate for this agent"
        );
        self.refuse(&denied, None, request);
        denied.into()
    }
}

fn certificate(
    signed: &Signed,
    (tenant, agent): (&str, &str),
    source: String,
    now_ns: i64,
) -> Certificate {
    Certificate {
        fingerprint: signed.fingerprint.clone(),
        tenant: tenant.into(),
        agent: agent.into(),
        source,
        public_key: signed.public_key.clone(),
        created_at_ns: now_ns,
        not_after_ns: signed.not_after_ns,
        revoked_at_ns: None,
    }
}

fn deed(action: &str, certificate: &Certificate, request: Request<'_>) -> Deed {
    Deed {
        at_ns: certificate.created_at_ns,
        tenant: certificate.tenant.to_string(),
        who: String::new(),
        action: action.to_owned(),
        object: format!(
            "{} of {}",
            &certificate.fingerprint[..16],
            certificate.agent
        ),
        outcome: "ok".to_owned(),
        address: shown_address(request.address),
    }
}

impl std::fmt::Debug for Enrolment {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Enrolment")
            .field("lifetime", &self.lifetime)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}
