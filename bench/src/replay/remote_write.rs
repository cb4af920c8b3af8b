//! Prometheus remote write 1.0: a `WriteRequest` in protobuf, packed by snappy's block format.
//!
//! One series per metric and agent: `__name__` with dots as underscores, and `device`; times in milliseconds. Only the
//! fields that are used are named; numbers and types are those of `prometheus/prompb`.

use prost::Message;

use crate::fleet::agent::Readings;

pub(super) const HEADERS: [(&str, &str); 3] = [
    ("content-type", "application/x-protobuf"),
    ("content-encoding", "snappy"),
    ("x-prometheus-remote-write-version", "0.1.0"),
];

#[derive(Clone, PartialEq, Message)]
pub(super) struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub(super) labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub(super) samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Label {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Sample {
    #[prost(double, tag = "1")]
    pub(super) value: f64,
    #[prost(int64, tag = "2")]
    pub(super) timestamp: i64,
}

/// The packed body of one request.
pub(super) fn body(readings: &Readings) -> anyhow::Result<Vec<u8>> {
    let label = |name: &str, value: &str| Label {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let timeseries = readings.columns.iter().map(|(metric, values)| TimeSeries {
        // In order of their names, as the specification asks.
        labels: vec![
            label("__name__", &metric.replace('.', "_")),
            label("device", &readings.device),
        ],
        samples: values
            .iter()
            .zip(&readings.times)
            .map(|(value, time)| Sample {
                value: *value,
                timestamp: time / 1_000_000,
            })
            .collect(),
    });
    let request = WriteRequest {
        timeseries: timeseries.collect(),
    };
    Ok(snap::raw::Encoder::new().compress_vec(&request.encode_to_vec())?)
}
