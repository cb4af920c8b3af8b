//! Every series the sink has met, by number, in order of first use.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use weir_proto::v1;

use crate::catalog::SeriesKey;

/// Numbers for series, and for the strings they share.
#[derive(Debug, Default)]
pub(crate) struct SeriesTable {
    keys: Vec<Arc<SeriesKey>>,
    numbers: HashMap<Arc<SeriesKey>, u32>,
    words: HashMap<Arc<str>, ()>,
}

impl SeriesTable {
    /// The table as the catalog has it; its numbers are contiguous from 0.
    pub(crate) fn load(series: Vec<(u32, SeriesKey)>) -> Self {
        let mut table = Self::default();
        for (number, key) in series {
            debug_assert_eq!(number as usize, table.keys.len());
            table.insert(key);
        }
        table
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn key(&self, number: u32) -> &Arc<SeriesKey> {
        &self.keys[number as usize]
    }

    /// All from `first` on, with their numbers.
    pub(crate) fn since(&self, first: usize) -> impl Iterator<Item = (u32, &Arc<SeriesKey>)> {
        (0u32..).zip(&self.keys).skip(first)
    }

    /// The number of what `series` of `agent` defines, new or known.
    pub(crate) fn number(&mut self, tenant: &str, agent: &str, series: &v1::Series) -> u32 {
        let key = SeriesKey {
            tenant: self.word(tenant),
            metric: self.word(&series.metric),
            device: self.word(&series.device),
            attributes: self.word(&attributes_json(&series.attributes)),
            unit: self.word(&series.unit),
            kind: self.word(kind_name(series.kind())),
            source: self.word(&series.source),
            agent: self.word(agent),
        };
        match self.numbers.get(&key) {
            Some(number) => *number,
            None => self.insert(key),
        }
    }

    /// What stands for every series of `agent` that is beyond a limit, so that the catalog does not grow by what
    /// is not stored.
    pub(crate) fn over_limit(&mut self, tenant: &str, agent: &str) -> u32 {
        let nothing = v1::Series {
            kind: v1::Kind::Unspecified.into(),
            ..v1::Series::default()
        };
        self.number(tenant, agent, &nothing)
    }

    fn insert(&mut self, key: SeriesKey) -> u32 {
        let number = u32::try_from(self.keys.len()).expect("fewer than 2^32 series");
        let key = Arc::new(key);
        self.keys.push(Arc::clone(&key));
        self.numbers.insert(key, number);
        number
    }

    fn word(&mut self, text: &str) -> Arc<str> {
        if let Some((word, ())) = self.words.get_key_value(text) {
            return Arc::clone(word);
        }
        let word: Arc<str> = text.into();
        self.words.insert(Arc::clone(&word), ());
        word
    }
}

/// Canonical JSON: one object, keys in order of their bytes, no spaces.
pub(crate) fn attributes_json(attributes: &BTreeMap<String, String>) -> String {
    if attributes.is_empty() {
        return "{}".into();
    }
    serde_json::to_string(attributes).expect("a map of strings is JSON")
}

/// The kind of what stands for series beyond a limit. No agent can define it: ingest refuses a series of no kind.
pub(crate) const OVER_LIMIT: &str = "over_limit";

/// How a kind is stored.
pub(crate) fn kind_name(kind: v1::Kind) -> &'static str {
    match kind {
        v1::Kind::Unspecified => OVER_LIMIT,
        v1::Kind::Gauge => "gauge",
        v1::Kind::Counter => "counter",
        v1::Kind::Bool => "bool",
        v1::Kind::Text => "text",
    }
}

/// The other way.
pub(crate) fn kind_of(name: &str) -> v1::Kind {
    match name {
        "counter" => v1::Kind::Counter,
        "bool" => v1::Kind::Bool,
        "text" => v1::Kind::Text,
        OVER_LIMIT => v1::Kind::Unspecified,
        _ => v1::Kind::Gauge,
    }
}
