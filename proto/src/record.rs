//! A `Record` as bytes: what lies in an agent's spool, travels over the wire and lies in the
//! sink's journal, unchanged. The payload of a batch is opaque here and is never copied twice.

use bytes::Bytes;
use prost::Message;

use crate::v1;

/// The encoded record of one batch.
pub fn encode_batch(
    header: v1::BatchHeader,
    series_defined: Vec<v1::Series>,
    payload: Bytes,
) -> Bytes {
    encode(&v1::Record {
        record: Some(v1::record::Record::Batch(v1::Batch {
            header: Some(header),
            series_defined,
            payload,
        })),
    })
}

/// The encoded record of anything.
pub fn encode(record: &v1::Record) -> Bytes {
    record.encode_to_vec().into()
}

/// Reads a record back; the payload of a batch shares `bytes`.
pub fn decode(bytes: Bytes) -> Result<v1::Record, prost::DecodeError> {
    v1::Record::decode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_comes_back_and_its_payload_shares_the_record() {
        let payload = Bytes::from(vec![7_u8; 1000]);
        let header = v1::BatchHeader {
            sequence: 3,
            readings: 5,
            crc: 9,
            ..Default::default()
        };
        let series = v1::Series {
            r#ref: 1,
            ..Default::default()
        };
        let bytes = encode_batch(header.clone(), vec![series.clone()], payload.clone());
        let record = decode(bytes.clone()).unwrap();
        let Some(v1::record::Record::Batch(batch)) = record.record else {
            panic!("not a batch: {record:?}");
        };
        assert_eq!(batch.header, Some(header));
        assert_eq!(batch.series_defined, [series]);
        assert_eq!(batch.payload, payload);
        let whole = bytes.as_ptr_range();
        assert!(
            whole.contains(&batch.payload.as_ptr()),
            "payload was copied"
        );
    }
}
