//! A server of our own takes each format and finds what was sent, by messages read back.

use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

/// Points and the sum of their values, by a server.
type Seen = Arc<Mutex<(u64, f64)>>;

fn count(seen: &Seen, values: impl Iterator<Item = f64>) {
    let mut seen = seen.lock().expect("nobody panics");
    for value in values {
        seen.0 += 1;
        seen.1 += value;
    }
}

fn count_otlp(seen: &Seen, bytes: &[u8]) {
    let request = otlp::ExportRequest::decode(bytes).expect("a request");
    for resource in &request.resource_metrics {
        assert_eq!(
            resource.resource.as_ref().expect("a resource").attributes[0].key,
            "host.name"
        );
        for metric in resource
            .scope_metrics
            .iter()
            .flat_map(|scope| &scope.metrics)
        {
            let points = &metric.gauge.as_ref().expect("a gauge").data_points;
            count(
                seen,
                points.iter().map(|point| point.as_double.expect("a value")),
            );
        }
    }
}

/// Takes HTTP/1.1 and HTTP/2 and answers each request as its format wants it.
async fn serve(seen: Seen) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let seen = Arc::clone(&seen);
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let seen = Arc::clone(&seen);
                async move { Ok::<_, std::convert::Infallible>(answer(&seen, request).await) }
            });
            tokio::spawn(async move {
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

async fn answer(
    seen: &Seen,
    request: http::Request<hyper::body::Incoming>,
) -> http::Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let mut response = http::Response::new(Full::new(Bytes::new()));
    match parts.uri.path() {
        "/api/v1/write" => {
            assert_eq!(parts.headers["content-encoding"], "snappy");
            let plain = snap::raw::Decoder::new()
                .decompress_vec(&body)
                .expect("snappy");
            let request = remote_write::WriteRequest::decode(&*plain).expect("a request");
            for series in &request.timeseries {
                assert_eq!(series.labels[0].name, "__name__");
                assert!(
                    series
                        .samples
                        .iter()
                        .all(|sample| sample.timestamp > 1_600_000_000_000)
                );
                count(seen, series.samples.iter().map(|sample| sample.value));
            }
        }
        "/v1/metrics" => count_otlp(seen, &body),
        EXPORT => {
            count_otlp(seen, &body[5..]);
            *response.body_mut() = Full::new(Bytes::from_static(&[0; 5]));
            let headers = response.headers_mut();
            headers.insert("content-type", "application/grpc".parse().expect("a value"));
            headers.insert("grpc-status", "0".parse().expect("a value"));
        }
        other => panic!("nothing is sent to {other}"),
    }
    response
}

/// Fails when a column is left out, or when times and values are not sent in pairs.
#[tokio::test]
async fn every_format_carries_every_point() {
    for (format, path) in [
        (Format::RemoteWrite, "/api/v1/write"),
        (Format::OtlpHttp, "/v1/metrics"),
        (Format::OtlpGrpc, ""),
    ] {
        let seen = Seen::default();
        let address = serve(Arc::clone(&seen)).await;
        let args = Args {
            format,
            url: format!("http://{address}{path}"),
            agents: 2,
            metrics: 7,
            samples_per_batch: 5,
            points: 700,
            seed: 3,
        };
        let outcome = run(&args).await.expect("sent");
        let mut expected = (0, 0.0);
        for index in 0..2 {
            let fleet = fleet::Args {
                metrics: 7,
                seed: 3,
                ..fleet::Args::standard()
            };
            let mut source = Source::new(&fleet, String::new(), index);
            for _ in 0..10 {
                for (_, values) in source.readings_of(5).columns {
                    expected.0 += values.len() as u64;
                    expected.1 += values.iter().sum::<f64>();
                }
            }
        }
        let found = *seen.lock().expect("nobody panics");
        assert_eq!(
            (outcome.points, found.0),
            (expected.0, expected.0),
            "{format:?}"
        );
        assert!(
            (found.1 - expected.1).abs() < 1e-6,
            "{format:?}: {found:?} {expected:?}"
        );
    }
}
