//! OTLP metrics: an `ExportMetricsServiceRequest` with one gauge per metric.
//!
//! The device is the resource's `host.name`. Only the fields that are used are named; numbers and types are those of
//! `opentelemetry/proto`.

use prost::Message;

use crate::fleet::agent::Readings;

pub(super) const HEADERS: [(&str, &str); 1] = [("content-type", "application/x-protobuf")];

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) resource_metrics: Vec<ResourceMetrics>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub(super) rejected_data_points: i64,
    #[prost(string, tag = "2")]
    pub(super) error_message: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResourceMetrics {
    #[prost(message, optional, tag = "1")]
    pub(super) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(super) scope_metrics: Vec<ScopeMetrics>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub(super) attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(message, optional, tag = "2")]
    pub(super) value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AnyValue {
    #[prost(string, tag = "1")]
    pub(super) string_value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ScopeMetrics {
    #[prost(message, repeated, tag = "2")]
    pub(super) metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metric {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "3")]
    pub(super) unit: String,
    #[prost(message, optional, tag = "5")]
    pub(super) gauge: Option<Gauge>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Gauge {
    #[prost(message, repeated, tag = "1")]
    pub(super) data_points: Vec<Point>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Point {
    #[prost(fixed64, tag = "3")]
    pub(super) time_unix_nano: u64,
    /// One member of a `oneof`: sent also where it is zero.
    #[prost(double, optional, tag = "4")]
    pub(super) as_double: Option<f64>,
}

/// One request.
pub(super) fn request(readings: &Readings) -> ExportRequest {
    let host = KeyValue {
        key: "host.name".to_owned(),
        value: Some(AnyValue {
            string_value: readings.device.clone(),
        }),
    };
    let metrics = readings.columns.iter().map(|(name, values)| {
        let points = values
            .iter()
            .zip(&readings.times)
            .map(|(value, time)| Point {
                time_unix_nano: time.cast_unsigned(),
                as_double: Some(*value),
            });
        Metric {
            name: name.clone(),
            unit: "Cel".to_owned(),
            gauge: Some(Gauge {
                data_points: points.collect(),
            }),
        }
    });
    ExportRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource {
                attributes: vec![host],
            }),
            scope_metrics: vec![ScopeMetrics {
                metrics: metrics.collect(),
            }],
        }],
    }
}
