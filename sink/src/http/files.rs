//! Files that cannot be read as they were written: which they are, and that an operator gives one up.

use http::StatusCode;
use weir_process::http::Response;

use super::own::Own;
use super::{Done, Refusal, json};
use crate::model::Kind;

pub(super) fn files(own: &Own) -> Response {
    json(StatusCode::OK, &own.files())
}

pub(super) async fn accept_loss(own: &Own, query: &str) -> Result<Done, Refusal> {
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    match (pairs.next(), pairs.next()) {
        (Some((name, path)), None) if name == "file" => {
            let lost = own.accept_loss(&path).await?;
            let what = format!("{}: {} readings", lost.file, lost.readings);
            Ok(Done {
                response: json(StatusCode::OK, &lost),
                what,
            })
        }
        _ => Err(Refusal::of(Kind::Invalid, "name one file: ?file=PATH")),
    }
}
