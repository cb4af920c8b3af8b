//! The fold's snapshot: what it has to know after a restart beside the catalog's tables. One object
//! per commit, in the same transaction.
//!
//! Format 1 is one protobuf message. Fields are only ever added; a reader ignores those it does not
//! know, and a program that did not know 2 and 3 left them out: agents say what their clocks say
//! with every connection.
//!
//! | field | type | what it holds |
//! |---|---|---|
//! | 1 `entries` | repeated message | one per series that has a value, see [`super::latest`] |
//! | 2 `boots` | repeated message | agents' clocks, per agent in the order of their first sample |
//! | boot 1 `tenant`, 2 `agent` | string | whose |
//! | boot 3 `id` | bytes | 16 bytes |
//! | boot 4 `own_machine` | bool | as in the envelope |
//! | boot 5 `samples` | repeated message | 1 `monotonic_ns` uint64, 2 `agent_offset` and 3 `sink_offset` sfixed64 |
//! | 3 `steady` | repeated message | 1 `stream` uint32, 2 `boot` bytes, 3 `offset` and 4 `shift_ns` sfixed64 |

use std::collections::{BTreeMap, VecDeque};

use prost::Message;

use super::clocks::{Boot, Clocks, Known, Sample, Steady, Whose};
use super::latest::{Entry, LatestTable};

pub(crate) const SNAPSHOT_FORMAT: i64 = 1;

#[derive(Clone, PartialEq, Message)]
struct Snapshot {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<Entry>,
    #[prost(message, repeated, tag = "2")]
    boots: Vec<BootEntry>,
    #[prost(message, repeated, tag = "3")]
    steady: Vec<SteadyEntry>,
}

#[derive(Clone, PartialEq, Message)]
struct BootEntry {
    #[prost(string, tag = "1")]
    tenant: String,
    #[prost(string, tag = "2")]
    agent: String,
    #[prost(bytes = "vec", tag = "3")]
    id: Vec<u8>,
    #[prost(bool, tag = "4")]
    own_machine: bool,
    #[prost(message, repeated, tag = "5")]
    samples: Vec<SampleEntry>,
}

#[derive(Clone, PartialEq, Message)]
struct SampleEntry {
    #[prost(uint64, tag = "1")]
    monotonic_ns: u64,
    #[prost(sfixed64, tag = "2")]
    agent_offset: i64,
    #[prost(sfixed64, tag = "3")]
    sink_offset: i64,
}

#[derive(Clone, PartialEq, Message)]
struct SteadyEntry {
    #[prost(uint32, tag = "1")]
    stream: u32,
    #[prost(bytes = "vec", tag = "2")]
    boot: Vec<u8>,
    #[prost(sfixed64, tag = "3")]
    offset: i64,
    #[prost(sfixed64, tag = "4")]
    shift_ns: i64,
}

/// The snapshot's bytes.
pub(crate) fn encode(latest: &LatestTable, clocks: &Clocks) -> Vec<u8> {
    let entries = latest.iter();
    let boots = clocks
        .known
        .iter()
        .flat_map(|(whose, boots)| boots.iter().map(move |boot| (whose, boot)));
    let mut steady: Vec<SteadyEntry> = clocks.steady.iter().map(SteadyEntry::new).collect();
    steady.sort_by_key(|entry| entry.stream);
    Snapshot {
        entries: entries
            .map(|(series, latest)| Entry::new(series, latest))
            .collect(),
        boots: boots
            .map(|((tenant, agent), boot)| BootEntry::new(tenant, agent, boot))
            .collect(),
        steady,
    }
    .encode_to_vec()
}

/// From a snapshot of the given format over `series` series; an error names what is wrong with it.
pub(crate) fn decode(
    format: i64,
    body: &[u8],
    series: usize,
) -> Result<(LatestTable, Clocks), String> {
    if format != SNAPSHOT_FORMAT {
        return Err(format!(
            "snapshot format {format} is not known, upgrade weir-sink"
        ));
    }
    let snapshot = Snapshot::decode(body).map_err(|e| e.to_string())?;
    let latest = LatestTable::from_entries(snapshot.entries, series)?;
    let mut agents: BTreeMap<Whose, VecDeque<Boot>> = BTreeMap::new();
    for entry in snapshot.boots {
        let whose = (entry.tenant.as_str().into(), entry.agent.as_str().into());
        let boot = entry
            .into_boot()
            .ok_or("snapshot holds a boot that is none")?;
        agents.entry(whose).or_default().push_back(boot);
    }
    let mut clocks = Clocks {
        known: Known::new(agents),
        ..Clocks::default()
    };
    for entry in snapshot.steady {
        let boot = <[u8; 16]>::try_from(entry.boot).map_err(|_| "snapshot names no boot")?;
        let steady = Steady {
            boot,
            offset: entry.offset,
            shift_ns: entry.shift_ns,
        };
        clocks.steady.insert(entry.stream, steady);
    }
    Ok((latest, clocks))
}

impl BootEntry {
    fn new(tenant: &str, agent: &str, boot: &Boot) -> Self {
        let samples = boot.samples.iter().map(|sample| SampleEntry {
            monotonic_ns: sample.monotonic_ns,
            agent_offset: sample.agent_offset,
            sink_offset: sample.sink_offset,
        });
        Self {
            tenant: tenant.into(),
            agent: agent.into(),
            id: boot.id.to_vec(),
            own_machine: boot.own_machine,
            samples: samples.collect(),
        }
    }

    fn into_boot(self) -> Option<Boot> {
        let samples = self.samples.into_iter().map(|entry| Sample {
            monotonic_ns: entry.monotonic_ns,
            agent_offset: entry.agent_offset,
            sink_offset: entry.sink_offset,
        });
        let samples: Vec<Sample> = samples.collect();
        let id = <[u8; 16]>::try_from(self.id).ok()?;
        (!samples.is_empty()).then_some(Boot {
            id,
            own_machine: self.own_machine,
            samples,
        })
    }
}

impl SteadyEntry {
    fn new((stream, steady): (&u32, &Steady)) -> Self {
        Self {
            stream: *stream,
            boot: steady.boot.to_vec(),
            offset: steady.offset,
            shift_ns: steady.shift_ns,
        }
    }
}
