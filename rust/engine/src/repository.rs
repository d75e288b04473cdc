// SPDX-License-Identifier: Apache-2.0
//! Loads and unloads on their way to the control plane, which decides and does them
//! (`spec/triton.md` 1.12, 3.5, 3.6).
//!
//! Both protocols ask with one JSON envelope: `transport`, `model`, `repository`, and either `body`, the text
//! of an HTTP request, or `parameters`, those of a gRPC message, each under the name of its type. Bytes of a
//! parameter are not spelled out: they follow the envelope behind a zero byte, which no JSON text has in it,
//! and the parameter tells where they begin and how many they are. `reach` has the patterns of a key that is
//! for some models only: a load or an unload may concern others than the one it names.

use bytes::{BufMut, Bytes, BytesMut};
use nerite_logic::Error;
use nerite_logic::wire::grpc::frame;
use nerite_logic::wire::grpc::messages as proto;
use proto::repository_parameter::Choice;
use serde_json::{Map, Value, json};

use crate::routes::guard::Sight;
use crate::shared::Shared;

const fn verb(load: bool) -> &'static str {
    match load {
        true => "repository_load",
        false => "repository_unload",
    }
}

/// Loads or unloads a model for an HTTP request.
///
/// # Errors
/// If the body is not text, or what the control plane answers.
pub async fn over_http(
    load: bool,
    model: &str,
    repository: Option<&str>,
    body: Bytes,
    sight: Sight<'_>,
    shared: &Shared,
) -> Result<(), Error> {
    let text = std::str::from_utf8(&body).map_err(|_| {
        Error::invalid("failed to parse the request JSON buffer: it is not UTF-8 text")
    })?;
    let envelope = json!({
        "transport": "http", "model": model, "repository": repository.unwrap_or_default(), "body": text,
        "reach": sight.patterns(),
    });
    let payload = Bytes::from(envelope.to_string());
    drop(body);
    shared.control.ask(verb(load), payload).await.map(drop)
}

/// Loads or unloads a model for a gRPC call.
///
/// # Errors
/// What the control plane answers.
pub async fn over_grpc(
    load: bool,
    mut asked: proto::RepositoryModelRequest,
    sight: Sight<'_>,
    shared: &Shared,
) -> Result<Bytes, Error> {
    let as_kserve = is_kserves(&asked);
    if as_kserve {
        asked.model_name = std::mem::take(&mut asked.repository_name);
    }
    let answer = if as_kserve {
        frame(&proto::KServeModelResponse {
            model_name: asked.model_name.clone(),
            done: true,
        })
    } else {
        frame(&proto::RepositoryModelResponse {})
    };
    let payload = payload_of(asked, sight.patterns());
    shared.control.ask(verb(load), payload).await?;
    Ok(answer)
}

/// Whether it is KServe's message, whose only field, the model's name, is where Triton's has the repository.
fn is_kserves(asked: &proto::RepositoryModelRequest) -> bool {
    asked.model_name.is_empty() && !asked.repository_name.is_empty() && asked.parameters.is_empty()
}

fn payload_of(asked: proto::RepositoryModelRequest, reach: Option<&[String]>) -> Bytes {
    let mut parameters = Map::new();
    let (mut blobs, mut end) = (Vec::new(), 0_usize);
    for (name, parameter) in asked.parameters {
        let value = match parameter.choice {
            None => Value::Null,
            Some(Choice::Bool(value)) => json!({ "bool": value }),
            Some(Choice::Int64(value)) => json!({ "int64": value }),
            Some(Choice::String(value)) => json!({ "string": value }),
            Some(Choice::Bytes(value)) => {
                let place = json!({ "bytes": [end, value.len()] });
                end += value.len();
                blobs.push(value);
                place
            }
        };
        parameters.insert(name, value);
    }
    let envelope = json!({
        "transport": "grpc", "model": asked.model_name, "repository": asked.repository_name,
        "parameters": parameters, "reach": reach,
    });
    let envelope = envelope.to_string();
    if blobs.is_empty() {
        return envelope.into();
    }
    let mut payload = BytesMut::with_capacity(envelope.len() + 1 + end);
    payload.extend_from_slice(envelope.as_bytes());
    payload.put_u8(0);
    for blob in blobs {
        payload.extend_from_slice(&blob);
    }
    payload.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_follow_the_envelope() {
        let choice = |choice| proto::ModelRepositoryParameter {
            choice: Some(choice),
        };
        let asked = proto::RepositoryModelRequest {
            repository_name: String::new(),
            model_name: "m".to_owned(),
            parameters: [
                ("config", Choice::String("{}\0".to_owned())),
                ("file:1/a", Choice::Bytes(Bytes::from_static(b"\0one"))),
                ("file:1/b", Choice::Bytes(Bytes::from_static(b"two"))),
            ]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), choice(value)))
            .collect(),
        };
        let payload = payload_of(asked, None);
        let end = payload.iter().position(|byte| *byte == 0).unwrap();
        let envelope: Value = serde_json::from_slice(&payload[..end]).unwrap();
        assert_eq!(envelope["parameters"]["config"]["string"], "{}\0");
        assert_eq!(envelope["parameters"]["file:1/a"]["bytes"], json!([0, 4]));
        assert_eq!(envelope["parameters"]["file:1/b"]["bytes"], json!([4, 3]));
        assert_eq!(&payload[end + 1..], b"\0onetwo");
    }
}
