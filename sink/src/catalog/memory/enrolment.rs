//! Tokens that become certificates, and the certificates, in memory.

use super::access::Access;
use super::failed;
use crate::catalog::{CatalogError, Certificate, Deed, EnrollToken, Enrolled};

impl Access {
    pub(super) fn add_enroll_token(
        &mut self,
        token: &EnrollToken,
        deed: &Deed,
    ) -> Result<(), CatalogError> {
        if self.enroll_tokens.iter().any(|known| known.id == token.id) {
            return Err(failed("a token of this id is there already"));
        }
        self.enroll_tokens.push(token.clone());
        self.audit.push(deed.clone());
        Ok(())
    }

    pub(super) fn revoke_enroll_token(&mut self, id: &str, deed: &Deed) -> bool {
        let mut tokens = self.enroll_tokens.iter_mut();
        let found = tokens.find(|token| token.id == id && token.revoked_at_ns.is_none());
        let Some(token) = found else {
            return false;
        };
        token.revoked_at_ns = Some(deed.at_ns);
        self.audit.push(deed.clone());
        true
    }

    pub(super) fn enroll(
        &mut self,
        id: &str,
        certificate: &Certificate,
        deed: &Deed,
    ) -> Result<Enrolled, CatalogError> {
        let again = self.certificates.iter().any(|known| {
            known.source == id
                && known.agent == certificate.agent
                && known.public_key == certificate.public_key
        });
        let one = u64::from(!again);
        let mut tokens = self.enroll_tokens.iter_mut();
        let token = tokens.find(|token| {
            let expired = token.expires_at_ns.is_some_and(|at| at <= deed.at_ns);
            token.id == id
                && token.used + one <= token.uses
                && token.revoked_at_ns.is_none()
                && !expired
        });
        let Some(token) = token else {
            return Ok(Enrolled::UsedUp);
        };
        token.used += one;
        self.add_certificate(certificate, deed)?;
        Ok(Enrolled::Done)
    }

    pub(super) fn renew_certificate(
        &mut self,
        certificate: &Certificate,
        deed: &Deed,
    ) -> Result<u64, CatalogError> {
        let same = |known: &&Certificate| known.source == certificate.source;
        let before = self.certificates.iter().filter(same).count() as u64;
        self.add_certificate(certificate, deed)?;
        Ok(before)
    }

    fn add_certificate(
        &mut self,
        certificate: &Certificate,
        deed: &Deed,
    ) -> Result<(), CatalogError> {
        let print = &certificate.fingerprint;
        if self
            .certificates
            .iter()
            .any(|known| known.fingerprint == *print)
        {
            return Err(failed("this certificate is there already"));
        }
        self.certificates.push(certificate.clone());
        self.generation += 1;
        self.audit.push(deed.clone());
        Ok(())
    }

    pub(super) fn certificates(&self) -> Vec<Certificate> {
        let mut found = self.certificates.clone();
        found.sort_by(|a, b| {
            let key = |one: &Certificate| {
                (
                    one.tenant.to_string(),
                    one.agent.to_string(),
                    one.created_at_ns,
                    one.fingerprint.clone(),
                )
            };
            key(a).cmp(&key(b))
        });
        found
    }

    pub(super) fn revoke_certificates(
        &mut self,
        (tenant, agent): (&str, &str),
        deed: &Deed,
    ) -> u64 {
        let mut changed = 0;
        for one in &mut self.certificates {
            let is_his = *one.tenant == *tenant && *one.agent == *agent;
            if is_his && one.revoked_at_ns.is_none() {
                one.revoked_at_ns = Some(deed.at_ns);
                changed += 1;
            }
        }
        if changed > 0 {
            self.generation += 1;
            self.audit.push(deed.clone());
        }
        changed
    }
}
