//! Agents that remember what they sent.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use weir_proto::batch::{self, Block, Column, Values};
use weir_proto::v1;

use super::world::{NOON, Reading, SECOND};
use crate::envelope::Envelope;
use crate::model::DEFAULT_TENANT;

/// One stream of one agent. Remembers every reading it made into a batch.
pub(crate) struct Sender {
    pub(crate) agent: String,
    pub(crate) stream: [u8; 16],
    pub(crate) sequence: u64,
    pub(crate) readings: u64,
    pub(crate) sent: Vec<Reading>,
    defined: BTreeMap<(String, String), u32>,
    pub(crate) received_ns: i64,
}

impl Sender {
    pub(crate) fn new(number: u8) -> Self {
        Self {
            agent: format!("agent-{number}"),
            stream: [number; 16],
            sequence: 0,
            readings: 0,
            sent: Vec::new(),
            defined: BTreeMap::new(),
            received_ns: NOON,
        }
    }

    pub(crate) fn envelope(&self, record: v1::record::Record) -> Envelope {
        Envelope {
            received_ns: self.received_ns,
            tenant: DEFAULT_TENANT.into(),
            agent: self.agent.clone(),
            stream_id: Bytes::copy_from_slice(&self.stream),
            clock_offset_ns: 0,
            report: None,
            record: v1::Record {
                record: Some(record),
            }
            .encode_to_vec()
            .into(),
            clock: None,
            lost: None,
            unwanted: Vec::new(),
        }
    }

    /// A batch of numbers of one device: every metric has a value at every time.
    pub(crate) fn numbers(&mut self, device: &str, metrics: &[&str], times: &[i64]) -> Envelope {
        let sequence = self.sequence;
        let columns: Vec<(&str, Values)> = (0u32..)
            .zip(metrics)
            .map(|(m, metric)| {
                let value = |i: u32| f64::from(m) * 1000.0 + sequence as f64 + f64::from(i) / 10.0;
                (
                    *metric,
                    Values::Numbers((0u32..).take(times.len()).map(value).collect()),
                )
            })
            .collect();
        self.batch(device, columns, times)
    }

    pub(crate) fn batch(
        &mut self,
        device: &str,
        columns: Vec<(&str, Values)>,
        times: &[i64],
    ) -> Envelope {
        self.sequence += 1;
        let mut series_defined = Vec::new();
        let mut block = Block {
            times: times.to_vec(),
            columns: Vec::new(),
        };
        for (metric, values) in columns {
            let reference = self.reference(device, metric, &values, &mut series_defined);
            for (i, time) in times.iter().enumerate() {
                let shown = match &values {
                    Values::Numbers(numbers) => format!("{:016x}", numbers[i].to_bits()),
                    Values::Texts(texts) => texts[i].clone(),
                };
                self.sent.push((
                    device.into(),
                    metric.into(),
                    r#"{"a":"1","b":"2"}"#.into(),
                    self.agent.clone(),
                    *time,
                    shown,
                ));
            }
            block.columns.push(Column {
                series: reference,
                values,
                present: None,
            });
        }
        let encoded = batch::encode(&[block]);
        let header = v1::BatchHeader {
            sequence: self.sequence,
            readings_before: self.readings,
            ..encoded.header()
        };
        self.readings += encoded.readings;
        self.envelope(v1::record::Record::Batch(v1::Batch {
            header: Some(header),
            series_defined,
            payload: encoded.payload,
        }))
    }

    fn reference(
        &mut self,
        device: &str,
        metric: &str,
        values: &Values,
        defined: &mut Vec<v1::Series>,
    ) -> u32 {
        let next = u32::try_from(self.defined.len()).expect("few") + 1;
        *self
            .defined
            .entry((device.into(), metric.into()))
            .or_insert_with(|| {
                let kind = match values {
                    Values::Numbers(_) => v1::Kind::Gauge,
                    Values::Texts(_) => v1::Kind::Text,
                };
                defined.push(v1::Series {
                    r#ref: next,
                    device: device.into(),
                    metric: metric.into(),
                    unit: "1".into(),
                    kind: kind.into(),
                    source: "test".into(),
                    attributes: BTreeMap::from([
                        ("b".into(), "2".into()),
                        ("a".into(), "1".into()),
                    ]),
                });
                next
            })
    }

    /// A definition to be sent before the first batch that uses it.
    pub(crate) fn define(&mut self, device: &str, metric: &str) -> v1::Series {
        let mut defined = Vec::new();
        self.reference(device, metric, &Values::Numbers(Vec::new()), &mut defined);
        defined.remove(0)
    }

    pub(crate) fn skip(&mut self, records: u64, readings: u64, reason: v1::DropReason) -> Envelope {
        let skip = v1::Skip {
            from: self.sequence + 1,
            through: self.sequence + records,
            reason: reason.into(),
            readings_before: self.readings,
            readings,
        };
        self.sequence += records;
        self.readings += readings;
        self.envelope(v1::record::Record::Skip(skip))
    }

    pub(crate) fn sorted(&self) -> Vec<Reading> {
        let mut sent = self.sent.clone();
        sent.sort();
        sent
    }
}

/// Every second from `from` seconds after noon on.
pub(crate) fn seconds(from: i64, count: i64) -> Vec<i64> {
    (from..from + count)
        .map(|second| NOON + second * SECOND)
        .collect()
}
