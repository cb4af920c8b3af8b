//! Typed values out of the resolved settings. Faults are collected, never returned one by one: a getter that finds one
//! answers a stand-in, so that the caller reads on and [`Reader::finish`] reports everything at once.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgMatches;
use url::Url;

use super::effective::{Effective, Setting, Source};
use super::faults::Faults;
use super::resolve::{Resolved, Sources, Value, resolve};
use super::table::{Key, Kind, Table};
use super::values;
use crate::env::Environment;
use crate::secret::Secret;

/// What switches an optional setting off that has a default.
const OFF: &str = "off";

/// Reads the settings of one program. Key names that are not in the table are a mistake of the program and panic.
#[derive(Debug)]
pub struct Reader {
    table: &'static Table,
    environment: Environment,
    resolved: Resolved,
    read: BTreeSet<&'static str>,
}

impl Reader {
    /// Resolves every key of `table`. All faults, also those found here, come out of [`Reader::finish`].
    pub fn new(table: &'static Table, sources: &Sources) -> Self {
        Self {
            table,
            environment: sources.environment.clone(),
            resolved: resolve(table, sources),
            read: BTreeSet::new(),
        }
    }

    /// The same from a command line that carries [`Table::args`], with the settings file it or the environment names.
    pub fn from_args(
        table: &'static Table,
        matches: &ArgMatches,
        environment: &Environment,
    ) -> Self {
        Self::new(table, &Sources::gather(table, matches, environment))
    }

    /// A duration such as `250ms`, `5s` or `1m`.
    pub fn duration(&mut self, name: &str) -> Duration {
        self.parse(name, values::duration, Duration::ZERO)
    }

    /// A duration within `bounds`.
    pub fn duration_within(&mut self, name: &str, bounds: RangeInclusive<Duration>) -> Duration {
        let value = self.duration(name);
        let show = |bound: &Duration| humantime::format_duration(*bound).to_string();
        self.bounded(name, value, &bounds, show)
    }

    /// A size in bytes, such as `64KiB` or `4MiB`.
    pub fn bytes(&mut self, name: &str) -> u64 {
        self.parse(name, values::bytes, 0)
    }

    /// A size in bytes within `bounds`.
    pub fn bytes_within(&mut self, name: &str, bounds: RangeInclusive<u64>) -> u64 {
        let value = self.bytes(name);
        self.bounded(name, value, &bounds, |bound| format!("{bound} bytes"))
    }

    /// A whole number.
    pub fn count(&mut self, name: &str) -> u64 {
        self.parse(name, values::count, 0)
    }

    /// A whole number within `bounds`.
    pub fn count_within(&mut self, name: &str, bounds: RangeInclusive<u64>) -> u64 {
        let value = self.count(name);
        self.bounded(name, value, &bounds, u64::to_string)
    }

    /// A finite number from 0, which may have a fraction.
    pub fn rate(&mut self, name: &str) -> f64 {
        self.parse(name, values::rate, 0.0)
    }

    /// 0, or a number within `bounds`.
    pub fn rate_within(&mut self, name: &str, bounds: RangeInclusive<f64>) -> f64 {
        let value = self.rate(name);
        if value != 0.0 && !bounds.contains(&value) {
            let (low, high) = (bounds.start(), bounds.end());
            let message = format!("{value} is out of range: write 0, or {low} to {high}");
            self.refuse(name, message);
        }
        value
    }

    /// Yes or no.
    pub fn bool(&mut self, name: &str) -> bool {
        self.parse(name, values::boolean, false)
    }

    /// One word of the key's own [`Kind::Choice`].
    pub fn choice(&mut self, name: &str) -> &'static str {
        let Kind::Choice(words) = self.key(name).kind else {
            panic!("{name} is a choice in the table");
        };
        let first = words.first().copied().unwrap_or_default();
        self.parse(name, |text| values::choice(text, words), first)
    }

    /// A URL that must be given.
    pub fn url(&mut self, name: &str) -> Url {
        self.optional_url(name).unwrap_or_else(|| {
            self.missing(name);
            Url::parse("http://not.set/").expect("a fixed URL parses")
        })
    }

    /// A URL, or nothing when it is not given or `off`.
    pub fn optional_url(&mut self, name: &str) -> Option<Url> {
        self.optional(name, values::url)
    }

    /// A socket address that must be given.
    pub fn address(&mut self, name: &str) -> SocketAddr {
        self.optional_address(name).unwrap_or_else(|| {
            self.missing(name);
            SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)
        })
    }

    /// A socket address, or nothing when it is not given or `off`.
    pub fn optional_address(&mut self, name: &str) -> Option<SocketAddr> {
        self.optional(name, values::address)
    }

    /// A path; empty when it is not given.
    pub fn path(&mut self, name: &str) -> PathBuf {
        PathBuf::from(self.value(name).text.expose())
    }

    /// Text; empty when it is not given.
    pub fn text(&mut self, name: &str) -> String {
        self.value(name).text.expose().to_owned()
    }

    /// A secret, empty when it is not given, and the file it was read from if it was.
    pub fn secret(&mut self, name: &str) -> (Secret, Option<PathBuf>) {
        let value = self.value(name);
        let file = match value.source {
            Source::SecretFile(path) => Some(path),
            _ => None,
        };
        (value.text, file)
    }

    /// A part of the settings file that is not made of keys, as it stands there.
    pub fn section(&self, name: &str) -> Option<&toml::Value> {
        self.resolved.file.sections.get(name)
    }

    /// The environment as this reader looks at it: empty under `--no-environment`.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Whether an operator set this, in whatever place.
    pub fn is_set(&self, name: &str) -> bool {
        self.peek(name).source != Source::Default
    }

    /// Adds a fault of the caller's own, for example of two settings that do not go together. A key's name is shown
    /// in the form in which the operator set it; another name as an entry of the settings file.
    pub fn fault(&mut self, name: &str, message: impl Into<String>) {
        let shown = match self.table.find(name) {
            Some(key) => self.shown(key),
            None if self.resolved.file.path.as_os_str().is_empty() => name.to_owned(),
            None => format!("{}: {name}", self.resolved.file.path.display()),
        };
        self.resolved.faults.push(shown, message);
    }

    /// Every key with the value that counts and where it came from, safe to show.
    pub fn effective(&self) -> Effective {
        let setting = |key: &'static Key| {
            let value = self.peek(key.name);
            let variable = self.table.variable(key);
            Setting::new(key, variable, value.text.expose(), value.source.clone())
        };
        Effective(self.table.keys().map(setting).collect())
    }

    /// Keys that no getter has asked for: settings without effect, for a test of the program that owns the table.
    pub fn unread(&self) -> Vec<&'static str> {
        self.table
            .keys()
            .map(|key| key.name)
            .filter(|name| !self.read.contains(name))
            .collect()
    }

    /// The settings in effect, once everything has been read.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn finish(self) -> Result<Effective, Faults> {
        if self.resolved.faults.is_empty() {
            Ok(self.effective())
        } else {
            Err(self.resolved.faults)
        }
    }

    fn key(&self, name: &str) -> &'static Key {
        self.table
            .find(name)
            .unwrap_or_else(|| panic!("{name} is in the table of {}", self.table.program()))
    }

    fn peek(&self, name: &str) -> &Value {
        let key = self.key(name);
        let value = self.resolved.values.get(key.name);
        value.expect("every key of the table was resolved")
    }

    fn value(&mut self, name: &str) -> Value {
        self.read.insert(self.key(name).name);
        self.peek(name).clone()
    }

    fn parse<T>(&mut self, name: &str, read: impl Fn(&str) -> Result<T, String>, stand_in: T) -> T {
        let value = self.value(name);
        if value.text.is_empty() {
            self.missing(name);
            return stand_in;
        }
        match read(value.text.expose()) {
            Ok(value) => value,
            Err(message) => {
                self.refuse(name, message);
                // The default keeps later cross-checks meaningful.
                read(self.key(name).default).unwrap_or(stand_in)
            }
        }
    }

    fn optional<T>(&mut self, name: &str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let value = self.value(name);
        if value.text.is_empty() || value.text.expose().eq_ignore_ascii_case(OFF) {
            return None;
        }
        match read(value.text.expose()) {
            Ok(value) => Some(value),
            Err(message) => {
                self.refuse(name, message);
                None
            }
        }
    }

    fn bounded<T: PartialOrd>(
        &mut self,
        name: &str,
        value: T,
        bounds: &RangeInclusive<T>,
        show: impl Fn(&T) -> String,
    ) -> T {
        if !bounds.contains(&value) {
            let (low, high) = (show(bounds.start()), show(bounds.end()));
            let message = format!("{} is out of range: write {low} to {high}", show(&value));
            self.refuse(name, message);
        }
        value
    }

    /// Reports a value that cannot be used, without showing a secret one.
    fn refuse(&mut self, name: &str, message: String) {
        let secret = self.key(name).secret;
        let message = if secret {
            "cannot be read: its value is not shown because it is a secret".to_owned()
        } else {
            message
        };
        self.fault(name, message);
    }

    fn missing(&mut self, name: &str) {
        let key = self.key(name);
        let shown = self.shown(key);
        // A value that was given and refused is one fault, not two.
        if !self.resolved.faults.iter().any(|fault| fault.name == shown) {
            self.fault(name, format!("is not set: {}", key.help));
        }
    }

    fn shown(&self, key: &Key) -> String {
        let variable = self.table.variable(key);
        match &self.peek(key.name).source {
            Source::Default | Source::Environment => variable,
            Source::Flag => format!("--{}", key.flag()),
            Source::File(path) => format!("{}: {}", path.display(), key.name),
            Source::SecretFile(_) => format!("{variable}_FILE"),
        }
    }
}
