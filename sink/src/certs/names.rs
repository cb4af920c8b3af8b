//! The host names and addresses that a server certificate is for.

use std::net::IpAddr;

use rcgen::SanType;

use super::CertsError;

/// Names without repetition, in the order in which they were given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(Vec<Name>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Host(String),
    Address(IpAddr),
}

impl Names {
    /// From host names and addresses as text.
    ///
    /// # Errors
    /// One of them is neither.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, CertsError> {
        let names = texts.iter().map(|text| Name::parse(text.as_ref()));
        let mut all = Self::default();
        for name in names {
            all.add(name?);
        }
        Ok(all)
    }

    /// These, and others after them.
    #[must_use]
    pub fn and(mut self, others: &Names) -> Self {
        for name in &others.0 {
            self.add(name.clone());
        }
        self
    }

    /// As text.
    pub fn shown(&self) -> Vec<String> {
        let shown = |name: &Name| match name {
            Name::Host(host) => host.clone(),
            Name::Address(ip) => ip.to_string(),
        };
        self.0.iter().map(shown).collect()
    }

    pub(super) fn entries(&self) -> Result<Vec<SanType>, CertsError> {
        let entry = |name: &Name| match name {
            Name::Host(host) => Ok(SanType::DnsName(host.as_str().try_into()?)),
            Name::Address(ip) => Ok(SanType::IpAddress(*ip)),
        };
        self.0.iter().map(entry).collect()
    }

    fn add(&mut self, name: Name) {
        if !self.0.contains(&name) {
            self.0.push(name);
        }
    }
}

impl Name {
    fn parse(text: &str) -> Result<Self, CertsError> {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse() {
            return Ok(Self::Address(ip));
        }
        // One star may stand for the first label.
        let labels = text.strip_prefix("*.").unwrap_or(text).split('.');
        let label = |label: &str| {
            let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            (1..=63).contains(&label.len())
                && label.bytes().all(inside)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if text.len() <= 253 && labels.clone().all(label) {
            return Ok(Self::Host(text.to_ascii_lowercase()));
        }
        Err(CertsError::Name(text.to_owned()))
    }
}

/// By what names a sink of this machine is reached where none is given: the machine's own, and those of loopback.
pub fn local_names() -> Names {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut names = Names::default();
    for text in [host.trim(), "localhost", "127.0.0.1", "::1"] {
        if let Ok(name) = Name::parse(text) {
            names.add(name);
        }
    }
    names
}
