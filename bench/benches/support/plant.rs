//! Batches of a plant: ten devices, a hundred metrics each, slow walks to one decimal.
#![allow(dead_code, reason = "each bench uses its part")]

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use weir_proto::batch::{self, Block, Column, Values};
use weir_proto::v1;

pub(crate) const DEVICES: u32 = 10;
const METRICS: u32 = 100;
const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_772_366_400 * SECOND;

/// One batch and who sends it.
pub(crate) struct Sent {
    pub(crate) device: u32,
    pub(crate) first_ns: i64,
    pub(crate) batch: v1::Batch,
}

/// Sensor-like values: a slow walk, to one decimal.
fn walk(state: &mut u64, level: &mut i64) -> f64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *level += i64::try_from(*state >> 61).expect("three bits") - 3;
    *level as f64 / 10.0
}

/// `rounds` batches per device, each of `samples` moments of all metrics, and their readings.
pub(crate) fn batches(samples: u32, rounds: u32) -> (Vec<Sent>, u64) {
    let mut sent = Vec::new();
    let mut points = 0;
    let mut walks = vec![(1u64, 200i64); (DEVICES * METRICS) as usize];
    for (i, walk) in walks.iter_mut().enumerate() {
        walk.0 = i as u64;
    }
    let mut readings_before = vec![0; DEVICES as usize];
    for round in 0..rounds {
        for device in 0..DEVICES {
            let first = START + i64::from(round * samples) * SECOND;
            let times = (0..samples)
                .map(|i| first + i64::from(i) * SECOND)
                .collect();
            let columns = (0..METRICS).map(|metric| {
                let (state, level) = &mut walks[(device * METRICS + metric) as usize];
                let values = (0..samples).map(|_| walk(state, level)).collect();
                Column {
                    series: metric + 1,
                    values: Values::Numbers(values),
                    present: None,
                }
            });
            let encoded = batch::encode(&[Block {
                times,
                columns: columns.collect(),
            }]);
            let before = &mut readings_before[device as usize];
            let header = v1::BatchHeader {
                sequence: u64::from(round) + 1,
                readings_before: *before,
                ..encoded.header()
            };
            *before += encoded.readings;
            points += encoded.readings;
            let series_defined = if round == 0 {
                definitions(device)
            } else {
                Vec::new()
            };
            let payload = encoded.payload;
            let batch = v1::Batch {
                header: Some(header),
                series_defined,
                payload,
            };
            sent.push(Sent {
                device,
                first_ns: first,
                batch,
            });
        }
    }
    (sent, points)
}

fn definitions(device: u32) -> Vec<v1::Series> {
    let series = |metric| v1::Series {
        r#ref: metric + 1,
        device: format!("device-{device:04}"),
        metric: format!("plant.metric.{metric:03}"),
        unit: "Cel".into(),
        kind: v1::Kind::Gauge.into(),
        source: "bench".into(),
        attributes: BTreeMap::from([("line".into(), "a".into())]),
    };
    (0..METRICS).map(series).collect()
}

/// The stream a device sends.
pub(crate) fn stream_id(device: u32) -> [u8; 16] {
    u128::from(device).to_be_bytes()
}

/// CPU time of the whole process.
pub(crate) fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(now.tv_sec).expect("time goes forward");
    Duration::new(seconds, u32::try_from(now.tv_nsec).expect("below a second"))
}
